"""One of several replicas works: the one that holds a Lease and renews it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import httpx2
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from xpert_operator import metrics

RETRY, DEADLINE = 2 / 15, 2 / 3
"""Shares of a lease's time, as client-go has them: between two tries, and after which who could not renew it has lost it.

Many tries are made in a lease's time: an API server that restarts is away for some of them, whenever it begins.
"""

AWAY = (ApiError, httpx2.HTTPError, OSError, TimeoutError)
"""What an API server that restarts is met with."""

log = logging.getLogger(__name__)


class LostError(Exception):
    """Another replica took the lease."""


class Leader:
    """Takes and keeps a Lease, as client-go's leader election does.

    Time is measured by this replica's own clock from when it saw the lease change last, so that clocks may differ.

    Parameters
    ----------
    client
        Of the API server.
    name, namespace
        The Lease.
    identity
        What this replica is called.
    lease_s
        Seconds without a renewal after which another may take it.
    """

    def __init__(self, client: AsyncClient, *, name: str, namespace: str, identity: str, lease_s: float) -> None:
        self._client, self._name, self._namespace = client, name, namespace
        self._identity, self._lease_s = identity, lease_s
        self._seen: tuple[str, float] = "", 0.0

    async def acquire(self) -> None:
        """Wait until the lease is this replica's."""
        metrics.LEADING.set(0)
        while not await self._try_unless_away():
            await asyncio.sleep(self._lease_s * RETRY)
        metrics.LEADING.set(1)
        log.info("Leading as %s", self._identity)

    async def keep(self) -> None:
        """Renew the lease until it is lost.

        Raises
        ------
        LostError
            Another has it, or it could not be renewed in time.
        """
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(self._lease_s * RETRY)
            # Earlier than others may take it: two must never work at a time.
            last = renewed + self._lease_s * DEADLINE
            try:
                async with asyncio.timeout_at(last):
                    if not await self._try_in_time():
                        raise LostError(f"Another replica took the lease '{self._name}'.")
                renewed = loop.time()
            except AWAY as error:
                log.warning("The lease could not be renewed: %s", str(error) or type(error).__name__)
            if loop.time() >= last:
                raise LostError(f"The lease '{self._name}' could not be renewed in time.")

    async def release(self) -> None:
        """Give the lease back, so that nobody has to wait."""
        found = await self._client.get(Lease, self._name, namespace=self._namespace)
        if found.spec and found.spec.holderIdentity == self._identity:
            found.spec.holderIdentity, found.spec.leaseDurationSeconds = "", 1
            await self._client.replace(found)

    async def _try_unless_away(self) -> bool:
        """Wait on where the API server does not answer: a replica that stands by must be there when it comes back."""
        try:
            return await self._try_in_time()
        except AWAY as error:
            log.warning("The lease could not be asked for: %s", str(error) or type(error).__name__)
            return False

    async def _try_in_time(self) -> bool:
        """Try, but leave time for another try: an API server that starts may hold a request and never answer it.

        client-go bounds a request in the same way, by half of its deadline.
        """
        async with asyncio.timeout(self._lease_s * DEADLINE / 2):
            return await self._try()

    async def _try(self) -> bool:
        """Take or renew the lease, if nobody else holds it."""
        loop = asyncio.get_running_loop()
        try:
            found = await self._client.get(Lease, self._name, namespace=self._namespace)
        except ApiError as error:
            if error.status.code != 404:
                raise
            return await self._create()
        spec, version = found.spec or LeaseSpec(), (found.metadata and found.metadata.resourceVersion) or ""
        if version != self._seen[0]:
            self._seen = version, loop.time()
        is_mine = spec.holderIdentity == self._identity
        is_over = loop.time() - self._seen[1] > (spec.leaseDurationSeconds or self._lease_s)
        if not (is_mine or is_over or not spec.holderIdentity):
            return False
        found.spec = self._spec(0 if is_mine else (spec.leaseTransitions or 0) + 1, spec if is_mine else None)
        return await self._write(found)

    async def _create(self) -> bool:
        lease = Lease(metadata=ObjectMeta(name=self._name, namespace=self._namespace), spec=self._spec(0, None))
        try:
            await self._client.create(lease)
        except ApiError as error:
            if error.status.code == 409:
                return False
            raise
        return True

    async def _write(self, lease: Lease) -> bool:
        try:
            await self._client.replace(lease)
        except ApiError as error:
            if error.status.code == 409:
                return False
            raise
        return True

    def _spec(self, transitions: int, mine: LeaseSpec | None) -> LeaseSpec:
        now = datetime.now(UTC)
        return LeaseSpec(
            holderIdentity=self._identity,
            leaseDurationSeconds=max(1, round(timedelta(seconds=self._lease_s).total_seconds())),
            renewTime=now,
            acquireTime=mine.acquireTime if mine else now,
            leaseTransitions=mine.leaseTransitions if mine else transitions,
        )
