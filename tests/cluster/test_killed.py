"""Killed between any two calls and started again, the operator comes to the same end, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cluster_cases import Site, Space, merge, starter
from control_plane import ControlPlane
from lightkube import AsyncClient as ClusterClient
from lightkube import KubeConfig
from local_cluster import defined

from xpert.client import AsyncClient
from xpert_operator.cluster import RESOURCES, Cluster
from xpert_operator.controller import Controller
from xpert_operator.mirror import Key, Mirror
from xpert_operator.server import Server

pytestmark = pytest.mark.slow


MOST = 40
WRITES = {"write_status", "set_finalizer", "tell", "delete", "add_base", "push", "merge", "explain", "publish", "cancel"}
"""Calls that change something; to die at a read is to die before the next write."""

ROUNDS = 400


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own: another test's operator would go on where one is killed."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
        yield found


class Killed(BaseException):
    """What SIGKILL does to a process: nothing is caught, nothing tidied up."""


class Mortal:
    """Passes calls on, until the one that kills.

    Parameters
    ----------
    target
        Whom it passes them to.
    life
        Counts the calls of all that share it.
    """

    def __init__(self, target: object, life: Life) -> None:
        self._target, self._life = target, life

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._target, name)

        async def mortal(*arguments: Any, **options: Any) -> Any:
            return await self._life.pass_on(name, lambda: call(*arguments, **options))

        return mortal


class Life:
    """Ends after the call of a number, whose answer is lost; only what changes something counts.

    To die before a call is to die after the one before it, with its answer in a memory that is lost as well.
    """

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.calls: list[str] = []

    async def pass_on(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name not in WRITES:
            return await call()
        self.calls.append(name)
        found = await call()
        if len(self.calls) == self.number:
            raise Killed
        return found


async def live(plane: ControlPlane, site: Site, namespace: str, life: Life, ends: Callable[[Mirror], bool]) -> None:
    """One life of an operator: list, then look at everything that changes, until the end or its own."""
    changed: list[Key] = []
    mirror = Mirror(changed.append)
    client = ClusterClient(KubeConfig.from_file(plane.kubeconfig))
    try:
        async with AsyncClient(site.url, token=site.token.read_text()) as asked:
            server = Server(asked, asyncio.Semaphore(1), 1 << 30)
            controller = Controller(Mortal(Cluster(client), life), Mortal(server, life), mirror)  # type: ignore[arg-type]
            for _ in range(ROUNDS):
                await _list(client, namespace, mirror)
                if ends(mirror):
                    return
                keys, changed[:] = {*changed, *mirror}, []
                for key in sorted(keys):
                    await controller.look(key, False)
                await asyncio.sleep(0.1)
    finally:
        await client.close()
    raise AssertionError({str(key): mirror.get(key) for key in mirror})


async def _list(client: ClusterClient, namespace: str, mirror: Mirror) -> None:
    """What a watch would have brought."""
    seen = set()
    for kind, resource in RESOURCES.items():
        options = {} if kind == "BaseModel" else {"namespace": namespace}
        async for found in client.list(resource, **options):
            body = {**found.to_dict(), "kind": kind}
            mirror.put(body)
            seen.add(Key(kind, body["metadata"].get("namespace") or "", body["metadata"]["name"]))
    for key in mirror:
        if key not in seen:
            mirror.drop(mirror.get(key) or {})


def ready(mirror: Mirror) -> bool:
    bodies = [mirror.get(key) or {} for key in mirror]
    conditions = [(body.get("status") or {}).get("conditions") or [] for body in bodies]
    return all(any(c["type"] == "Ready" and c["status"] == "True" for c in found) for found in conditions)


def gone(mirror: Mirror) -> bool:
    return {key.kind for key in mirror} == {"BaseModel"}


async def until_dead(plane: ControlPlane, site: Site, namespace: str, life: Life, ends: Callable[[Mirror], bool]) -> bool:
    """Return whether it was killed."""
    try:
        await live(plane, site, namespace, life, ends)
    except Killed:
        return True
    return False


def test_killed_after_any_write(plane: ControlPlane, site: Site, space: Space) -> None:
    kills: Counter[str] = Counter()
    for number in range(1, MOST):
        space.apply(starter("concise"), merge("mix", ("concise", 1.0)))
        life = Life(number)
        dead = asyncio.run(until_dead(plane, site, space.name, life, ready))
        asyncio.run(live(plane, site, space.name, Life(None), ready))
        space.delete("mix", "concise")
        if not dead:
            life = Life(number - len(life.calls))
            dead = asyncio.run(until_dead(plane, site, space.name, life, gone))
        asyncio.run(live(plane, site, space.name, Life(None), gone))
        _nothing_twice(site, space, n_lives=number)
        if not dead:
            break
        kills[life.calls[-1]] += 1
    else:
        raise AssertionError(f"more than {MOST} calls: {kills}")
    print(f"killed after {sum(kills.values())} writes: {dict(sorted(kills.items()))}")
    assert {"write_status", "set_finalizer", "push", "merge", "delete"} <= set(kills)


def _nothing_twice(site: Site, space: Space, *, n_lives: int) -> None:
    """What the server made new: one pLLM and one merge for each of the lives so far."""
    with site.client() as client:
        made = Counter(entry.path for entry in client.audit() if entry.status == 201 and entry.path == "/v1/pllms")
        jobs = [job for job in client.jobs() if job.kind == "merge" and job.subject == f"starter/{space.name}.mix"]
        assert not list(client.pllms("starter")) or all(
            not pllm.name.startswith(f"{space.name}.") for pllm in client.pllms("starter")
        )
    assert len(jobs) == n_lives
    assert all(job.attempts == 1 for job in jobs)
    assert made["/v1/pllms"] >= n_lives
