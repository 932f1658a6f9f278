"""Looks at one resource after the other: observe, decide, write the status, take the step, and again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
from lightkube.core.exceptions import ApiError
from pydantic import BaseModel

from xpert.core.errors import XpertError
from xpert_operator import acting, metrics, observing
from xpert_operator.cluster import Cluster
from xpert_operator.mirror import Body, Key, Mirror
from xpert_operator.reconcile.views import LATER, Action, AddFinalizer, Plan, Problem
from xpert_operator.server import Server
from xpert_operator.workqueue import Verdict

STEPS = 8
"""Steps of one look; a resource that wants more makes room for others."""

log = logging.getLogger(__name__)


def now() -> datetime:
    """Return the present time, in whole seconds as Kubernetes keeps them."""
    return datetime.now(UTC).replace(microsecond=0)


class Controller:
    """Brings resources to where their specs want them.

    Parameters
    ----------
    cluster, server, mirror
        Whom it asks.
    explanations
        How many of a style space may be under way.
    clock
        Tells the time.
    """

    def __init__(
        self, cluster: Cluster, server: Server, mirror: Mirror, *, explanations: int = 32, clock: Callable[[], datetime] = now
    ) -> None:
        self._cluster, self._server, self._mirror, self._clock = cluster, server, mirror, clock
        self._explanations = explanations

    async def look(self, key: Key, retries: bool) -> Verdict | None:
        """Look at one resource; None where there is none. Whatever goes wrong concerns that one."""
        with metrics.LOOKS.labels(kind=key.kind).time():
            try:
                verdict = await self._look(key, retries=retries)
            except ApiError as error:
                changed = error.status.code in {404, 409}  # or gone: the watch brings what it is now
                if not changed:
                    log.warning("%s: %s", key, error)
                verdict = Verdict(1.0 if changed else LATER, is_failure=True)
            except httpx2.TransportError as error:
                log.warning("%s: the API server does not answer: %s", key, error or type(error).__name__)
                verdict = Verdict(LATER, is_failure=True)
            except Exception:
                log.exception("%s could not be looked at", key)
                verdict = Verdict(LATER, is_failure=True)
        metrics.RESULTS.labels(kind=key.kind, result="failed" if verdict and verdict.is_failure else "done").inc()
        return verdict

    async def _look(self, key: Key, *, retries: bool) -> Verdict | None:
        for _ in range(STEPS):
            body = self._mirror.get(key)
            if body is None:
                return None
            seen = await self._observe(key, body)
            plan = observing.decide(seen, retries=retries)
            # What a new resource waits for is written together with the step after its finalizer.
            if not isinstance(plan.action, AddFinalizer):
                body = await self._write(key, body, plan)
            if plan.action is None:
                return Verdict(plan.again, is_failure=plan.is_failure)
            done = await self._act(plan.action, key)
            if isinstance(done, Problem):
                plan = observing.decide(seen, failure=done)
                await self._write(key, body, plan)
                return Verdict(LATER if plan.again is None else plan.again, is_failure=True)
            await self._note(key, body, plan.status, done)
            if done.after is not None:
                return Verdict(done.after)
            retries = False
        return Verdict(LATER, is_failure=True)

    async def _observe(self, key: Key, body: Body) -> observing.Observed:
        asked = self._mirror, self._cluster, self._server
        return await observing.observe(key, body, *asked, self._clock(), explanations=self._explanations)

    async def _act(self, action: Action, key: Key) -> acting.Done | Problem:
        """Take a step; what goes wrong comes back, but for what is the API server's: then nothing can be written either."""
        step = type(action).__name__
        try:
            done = await acting.act(action, key, self._mirror, self._cluster, self._server)
        except XpertError as error:
            log.info("%s: %s failed: %s", key, step, error)
            found = Problem(code=error.code, message=str(error))
        except (ApiError, httpx2.TransportError):
            raise
        except Exception as error:
            # Whoever looks at the resource has to learn of it, too: a log is not where they look.
            log.exception("%s: %s failed", key, step)
            told = f"{step} met what nobody foresaw, {type(error).__name__}: {error}. Look at the operator's log, and report it."
            found = Problem(code="error", message=told)
        else:
            log.info("%s: %s", key, step)
            metrics.STEPS.labels(step=step, result="done").inc()
            return done
        metrics.STEPS.labels(step=step, result=found.code).inc()
        return found

    async def _write(self, key: Key, body: Body, plan: Plan[Any]) -> Body:
        """Write the status where it changed, and post what happened; returns the resource as it is then."""
        wanted = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if wanted != observing.status_of(key, body).model_dump(mode="json", by_alias=True, exclude_none=True):
            body = await self._write_status(key, body, plan.status)
        for event in plan.events:
            await self._cluster.tell(key, body, event)
        return body

    async def _write_status(self, key: Key, body: Body, status: BaseModel) -> Body:
        # What others changed meanwhile is no reason to lose what was found out; that another one has the name is.
        present = self._mirror.get(key)
        is_same = present is not None and present["metadata"].get("uid") == body["metadata"].get("uid")
        found = await self._cluster.write_status(key, present if present is not None and is_same else body, status)
        self._mirror.put(found)
        return found

    async def _note(self, key: Key, body: Body, status: BaseModel, done: acting.Done) -> None:
        """Keep what a step brought: the resource as it is now, or the job that it asked for."""
        if done.body is not None:
            self._mirror.put(done.body)
        if done.job is not None:
            await self._write_status(key, body, status.model_copy(update={"job": done.job}))
