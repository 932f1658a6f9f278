"""A cluster and a server in memory, for whole stories of the operator without a process."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any

from pydantic import BaseModel
from reconcile_cases import BASE, NOW, held, job

from xpert.wire import Base, Job
from xpert_operator.cluster import finalizer
from xpert_operator.controller import Controller
from xpert_operator.mirror import Body, Key, Mirror
from xpert_operator.reconcile.views import AskExplanation, Event, Known, SpaceKnown

ROUNDS = 20_000


class MemoryCluster:
    """What the API server would keep; every write reaches the mirror at once, as by a watch."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self._versions = mirror, itertools.count(1)
        self.events: list[tuple[str, str]] = []
        self.ready: list[tuple[str, str, str]] = []

    def apply(self, kind: str, name: str, spec: dict[str, Any], **meta: Any) -> None:
        namespace = {} if kind == "BaseModel" else {"namespace": "team"}
        before = self.mirror.get(Key(kind, namespace.get("namespace", ""), name)) or {"metadata": {"generation": 0}}
        kept = {**before["metadata"], "generation": before["metadata"]["generation"] + 1}
        self._put({**before, "kind": kind, "metadata": {"uid": name, **kept, "name": name, **namespace, **meta}, "spec": spec})

    def _put(self, body: Body) -> Body:
        found = {**body, "metadata": {**body["metadata"], "resourceVersion": str(next(self._versions))}}
        self.mirror.put(found)
        return found

    async def write_status(self, key: Key, body: Body, status: BaseModel) -> Body:
        told = status.model_dump(mode="json", by_alias=True)
        self.ready += [(key.name, each["status"], each["reason"]) for each in told["conditions"] if each["type"] == "Ready"]
        return self._put({**(self.mirror.get(key) or body), "status": told})

    async def set_finalizer(self, key: Key, body: Body, *, is_on: bool) -> Body:
        return self._put({**body, "metadata": {**body["metadata"], "finalizers": [finalizer(key.kind)] if is_on else []}})

    async def tell(self, key: Key, body: Body, event: Event) -> None:
        self.events.append((key.name, event.reason))


class MemoryServer:
    """A server that explains one pLLM each time that it is told to, and counts how many wait for it."""

    def __init__(self) -> None:
        self.explained: dict[str, set[str]] = {}
        self.broken: dict[str, str] = {}
        self.most = 0
        self.asked: list[tuple[str, str]] = []
        self._jobs: dict[str, Job] = {}
        self._waiting: dict[str, tuple[str, str]] = {}

    def work(self) -> bool:
        """Do the job that waits longest; tells whether there was one."""
        self.most = max(self.most, len(self._waiting))
        if not self._waiting:
            return False
        name = next(iter(self._waiting))
        id_, space = self._waiting.pop(name)
        if name in self.broken:
            self._jobs[name] = job("failed", error=self.broken[name], code="mismatch").model_copy(update={"id": id_})
        else:
            self._jobs[name] = job("succeeded").model_copy(update={"id": id_})
            self.explained.setdefault(name, set()).add(space)
        return True

    async def base(self, name: str) -> Base:
        return Base(name=name, source="starter:base", digest=BASE, created=NOW)

    async def space(self, digest: str | None, job: str | None) -> SpaceKnown:
        return SpaceKnown(digest=digest, words=("poetic",))

    async def pllm(self, base: str, name: str, *, space: str | None, serving: str | None, job: str | None) -> Known:
        found, explained = held(name=name), self.explained.get(name, set())
        if space not in explained:
            bare, is_served = found.model_copy(update={"explanation": None}), serving in explained
            return Known(pllm=bare, job=self._jobs.get(name), catalogue="v0" if is_served else None, is_served=is_served)
        assert found.explanation
        explanation = found.explanation.model_copy(update={"space": space})
        return Known(pllm=found.model_copy(update={"explanation": explanation}), catalogue="v1")

    async def explain(self, action: AskExplanation) -> str:
        id_ = f"{len(self.asked):064x}"
        self.asked.append((action.name, str(action.space)))
        self._jobs[action.name] = job("queued").model_copy(update={"id": id_})
        self._waiting[action.name] = id_, str(action.space)
        self.most = max(self.most, len(self._waiting))
        return id_


class Story:
    """An operator over both, whose queue is worked off whenever it is told to."""

    def __init__(self, *, explanations: int) -> None:
        self._explanations = explanations
        self._changed: deque[Key] = deque()
        self.mirror = Mirror(self._changed.append)
        self.cluster, self.server = MemoryCluster(self.mirror), MemoryServer()
        self._begin()

    def _begin(self) -> None:
        asked: Any = self.cluster, self.server
        self._controller = Controller(*asked, self.mirror, explanations=self._explanations, clock=lambda: NOW)

    def replace(self) -> None:
        """Have another operator go on, which knows what the cluster and the server know."""
        before = self.mirror
        self._changed.clear()
        self.mirror = self.cluster.mirror = Mirror(self._changed.append)
        for key in before:
            self.mirror.put(before.get(key) or {})
        self._begin()

    def settle(self, *, retries: bool = False, jobs: int = ROUNDS) -> None:
        """Let the operator look and the server work until neither has anything to do, or so many jobs are done."""
        asyncio.run(self._settle(retries=retries, jobs=jobs))

    async def _settle(self, *, retries: bool, jobs: int) -> None:
        if retries:
            for key in self.mirror:
                await self._controller.look(key, True)
        for _ in range(jobs):
            while self._changed:
                key = self._changed.popleft()
                verdict = await self._controller.look(key, False)
                assert verdict is None or verdict.after is None or verdict.after >= 1
            if not self.server.work():
                return
            for key in self.mirror:  # who waits for a job asks for it from time to time
                if self._condition(key, "Explained").get("reason") == "Explaining":
                    self._changed.append(key)
        assert jobs < ROUNDS, "it never ends"

    def _condition(self, key: Key, type_: str) -> dict[str, Any]:
        conditions = ((self.mirror.get(key) or {}).get("status") or {}).get("conditions") or []
        return next((found for found in conditions if found["type"] == type_), {})

    def pllm(self, name: str, type_: str = "Ready") -> tuple[str, str]:
        found = self._condition(Key("PersonalizedLLM", "team", name), type_)
        return found.get("status", ""), found.get("reason", "")

    def space(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.mirror.get(Key("StyleSpace", "team", "words")) or {})["status"]
        return found

    def rolled_out(self) -> dict[str, Any]:
        return self._condition(Key("StyleSpace", "team", "words"), "RolledOut")
