"""What is to be looked at, and when: every resource once however often it was asked for, and never twice at a time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from xpert_operator.mirror import Key

LONGEST = 300.0
"""Seconds of the longest pause after failures that may go by themselves."""

DOUBLINGS = 16


@dataclass(frozen=True)
class Verdict:
    """When to look again.

    Attributes
    ----------
    after
        Seconds; None: when the drift timer comes.
    is_failure
        Whether the pause grows with every time in a row.
    """

    after: float | None = None
    is_failure: bool = False


@dataclass
class Queue:
    """Runs ``look(key, retries)`` for what was added.

    Attributes
    ----------
    look
        Looks at one resource; ``retries`` says that a pause after a failure, or the drift timer, is over. None: it is gone.
    drift_s
        Seconds after which everything is looked at again, give or take a fifth.
    """

    look: Callable[[Key, bool], Awaitable[Verdict | None]]
    drift_s: float
    _due: list[tuple[float, int, Key, bool]] = field(default_factory=list)
    _wanted: dict[Key, tuple[float, int]] = field(default_factory=dict)
    _busy: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, key: Key, after: float = 0.0, *, retries: bool = False) -> None:
        """Have a resource looked at; an earlier time counts."""
        if key in self._busy and after == 0.0:
            self._again.add(key)
            return
        at = asyncio.get_running_loop().time() + after
        held = self._wanted.get(key)
        if held is not None and held[0] <= at:
            return
        number = next(self._numbers)
        self._wanted[key] = at, number
        heapq.heappush(self._due, (at, number, key, retries))
        self._changed.set()

    async def run(self, workers: int) -> None:
        """Look at what is due, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key, retries = await self._next()
            self._busy.add(key)
            try:
                verdict = await self.look(key, retries)
            finally:
                self._busy.discard(key)
            if verdict is None:
                self._forget(key)
            else:
                self._schedule(key, verdict)

    def _forget(self, key: Key) -> None:
        """Have a resource not looked at any more, unless it came back meanwhile."""
        self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _schedule(self, key: Key, verdict: Verdict) -> None:
        if verdict.is_failure:
            n = self._failures[key] = self._failures.get(key, 0) + 1
        else:
            n = 0
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        after = self.drift_s if verdict.after is None else verdict.after
        if n:
            # Capped before it is multiplied: after days of failures the number is larger than any float.
            after = min(after * 2 ** min(n - 1, DOUBLINGS), max(LONGEST, after))
        # Spread, so that what began together does not come back together.
        self.add(key, after * random.uniform(0.8, 1.2), retries=bool(n) or verdict.after is None)

    async def _next(self) -> tuple[Key, bool]:
        while True:
            now = asyncio.get_running_loop().time()
            while self._due and self._due[0][0] <= now:
                _, number, key, retries = heapq.heappop(self._due)
                if self._wanted.get(key, (0.0, -1))[1] != number:
                    continue  # it was asked for at an earlier time, or is gone
                del self._wanted[key]
                if key in self._busy:
                    self._again.add(key)
                    continue
                return key, retries
            self._changed.clear()
            wait = self._due[0][0] - now if self._due else None
            # Not wait_for: before Python 3.12 it swallows being cancelled while the event comes, and the process never ends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
