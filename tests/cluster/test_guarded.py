"""What the real API server does for the operator: finalizers of what is in use, statuses that belong to one resource alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cluster_cases import Operator, Space, pllm, resource, starter, until
from control_plane import ControlPlane
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from memory_cases import MemoryServer

from xpert_operator.cluster import Cluster
from xpert_operator.controller import Controller
from xpert_operator.mirror import Key, Mirror
from xpert_operator.resources import PLLM, PersonalizedLLMStatus

pytestmark = pytest.mark.slow

WORDS = resource("StyleSpace", "words", {"baseModel": {"name": "starter"}, "version": 1, "words": ["poetic", "concise"]})


async def write(plane: ControlPlane, key: Key, body: dict[str, Any], summary: str) -> int:
    """Write a status as the operator does; returns the error's code, 0 where it was taken."""
    client = AsyncClient(KubeConfig.from_file(plane.kubeconfig))
    try:
        await Cluster(client).write_status(key, body, PersonalizedLLMStatus(summary=summary))
    except ApiError as error:
        return int(error.status.code or 0)
    finally:
        await client.close()
    return 0


def test_a_status_is_not_written_onto_another_of_the_same_name(plane: ControlPlane, namespace: str) -> None:
    space, key = Space(plane, namespace), Key(PLLM.name, namespace, "mine")
    space.apply(pllm())
    first = space.get("mine") or {}
    assert asyncio.run(write(plane, key, first, "first")) == 0
    first = space.get("mine") or {}
    space.delete("mine")
    space.gone("mine")
    space.apply(pllm())
    assert asyncio.run(write(plane, key, first, "of the dead")) == 409
    second = space.get("mine") or {}
    assert "status" not in second
    assert asyncio.run(write(plane, key, second, "second")) == 0
    assert (space.get("mine") or {})["status"]["summary"] == "second"
    # Why the version is sent and not the uid: a patch of the status with that of the dead one would be taken.
    stale = json.dumps({"metadata": {"uid": first["metadata"]["uid"]}, "status": {"summary": "of the dead"}})
    plane.kubectl("patch", "-n", namespace, "pllm", "mine", "--subresource=status", "--type=merge", "-p", stale)
    assert (space.get("mine") or {})["status"]["summary"] == "of the dead"


def test_who_finds_another_under_the_name_looks_again(plane: ControlPlane, namespace: str) -> None:
    space, key = Space(plane, namespace), Key(PLLM.name, namespace, "mine")
    space.apply(pllm())
    held = space.get("mine") or {}
    space.delete("mine")
    space.gone("mine")
    space.apply(pllm())

    async def look() -> tuple[float | None, bool]:
        client = AsyncClient(KubeConfig.from_file(plane.kubeconfig))
        mirror = Mirror(lambda _: None)
        mirror.put({**held, "kind": PLLM.name})  # the watch is behind
        asked: Any = MemoryServer()
        verdict = await Controller(Cluster(client), asked, mirror).look(key, False)
        await client.close()
        assert verdict is not None
        return verdict.after, verdict.is_failure

    assert asyncio.run(look()) == (1.0, True)
    assert "status" not in (space.get("mine") or {})


def test_a_style_space_stays_while_pllms_refer_to_it(space: Space, operator: Operator) -> None:
    space.apply(WORDS, starter("concise", styleSpace={"name": "words"}))
    space.ready("concise")
    space.delete("words", kind="sspace")
    assert f"1 still refer to it: PersonalizedLLM {space.name}/concise." in space.reason("words", "InUse", "InUse", "sspace")
    assert "InUse" in space.events("words")
    space.ready("concise")
    assert space.condition("words", kind="sspace")["status"] == "True", "it works until it goes"
    space.delete("concise")
    space.gone("concise")
    space.gone("words", kind="sspace")


def test_a_base_model_stays_while_anything_refers_to_it(space: Space, operator: Operator) -> None:
    base = f"base-{space.name}"
    space.apply(resource("BaseModel", base, {"source": "starter:base"}))
    space.apply({**WORDS, "spec": {**WORDS["spec"], "baseModel": {"name": base}}}, starter("concise", baseModel={"name": base}))
    space.ready("concise")
    space.delete(base, kind="bm")
    assert "2 still refer to it" in space.reason(base, "InUse", "InUse", "bm")
    space.delete("words", kind="sspace")
    space.gone("words", kind="sspace")
    last = f"1 still refer to it: PersonalizedLLM {space.name}/concise."
    until(lambda: last in space.condition(base, "InUse", "bm")["message"], lambda: space.get(base, "bm"))
    space.delete("concise")
    space.gone(base, kind="bm")


@pytest.mark.parametrize("first", ["", "pllm/concise", "sspace/words"])
def test_a_namespace_ends_in_every_order(space: Space, operator: Operator, first: str) -> None:
    space.apply(WORDS, starter("concise", styleSpace={"name": "words"}))
    space.ready("concise")
    if first:
        kind, _, name = first.partition("/")
        space.delete(name, kind=kind)
    space.plane.kubectl("delete", "namespace", space.name, "--wait=false")
    until(
        lambda: not space.plane.kubectl("get", "namespace", space.name, "--ignore-not-found").stdout,
        lambda: space.plane.kubectl("get", "pllm,sspace", "-n", space.name, "-o", "json", check=False).stdout,
    )
    space.plane.kubectl("create", "namespace", space.name)  # for the fixture, which deletes it
