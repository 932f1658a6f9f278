"""A worker: takes jobs, runs their handlers, and ends each of them once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from xpert.core.errors import ConflictError, XpertError
from xpert_services.jobs.leases import Lease, Stopped, renewed
from xpert_services.jobs.queue import Jobs
from xpert_services.jobs.spans import traced
from xpert_services.metering import JOB_SECONDS

Handler = Callable[[Sequence[Lease]], None]
"""Does jobs of one kind and group; ends each lease, or raises what then ends those that are left."""

log = logging.getLogger(__name__)


class Worker:
    """Takes jobs from the queue and does them.

    Parameters
    ----------
    jobs
        The queue.
    handlers
        Kind -> what does it.
    lease_s
        How long a job stays this worker's without a sign of life.
    pause_s
        How long to wait where there is nothing to do.
    most
        How many jobs of a group to do together.
    """

    def __init__(
        self, jobs: Jobs, handlers: Mapping[str, Handler], *, lease_s: float = 30.0, pause_s: float = 0.5, most: int = 16
    ) -> None:
        self._jobs, self._handlers = jobs, dict(handlers)
        self._lease_s, self._pause_s, self._most = lease_s, pause_s, most
        self._over = threading.Event()
        self._held: Sequence[Lease] = ()

    def stop(self) -> None:
        """End `run`: jobs under way go back to the queue at once, and their handlers stop at the next report of progress."""
        self._over.set()
        _give_back(self._held)

    def run(self) -> None:
        """Work until `stop` is called."""
        while not self._over.is_set():
            try:
                worked = self.step()
            except Exception as error:
                # The store may be away for a while; a worker that ended because of it would not come back with it.
                log.warning("The worker could not go on and tries again: %s", error)
                worked = False
            if not worked:
                self._over.wait(self._pause_s)

    def step(self) -> bool:
        """Do what is due first; returns whether there was something."""
        leases = self._jobs.take(kinds=self._handlers.keys(), lease_s=self._lease_s, most=self._most)
        self._held = leases
        if self._over.is_set():
            _give_back(leases)
        elif leases:
            begun = time.monotonic()
            with renewed(leases, lease_s=self._lease_s), traced(leases):
                self._work(leases)
            JOB_SECONDS.record(time.monotonic() - begun, kind=leases[0].job.kind)
        return bool(leases)

    def _work(self, leases: Sequence[Lease]) -> None:
        try:
            self._handlers[leases[0].job.kind](leases)
        except Stopped:
            pass
        except Exception as error:
            left = [lease for lease in leases if not lease.is_stopped]
            if len(leases) > 1:
                # One of them may be the reason: each alone fails alone.
                log.warning("%d jobs failed together and are done one by one: %s", len(left), error)
                for lease in left:
                    self._work([lease])
            elif left:
                log.warning("Job %s failed: %s", left[0].id, error, exc_info=not isinstance(error, XpertError))
                self._end(left[0], error)
        for lease in leases:
            if lease.is_cancelled and not lease.has_ended:
                lease.give_up()

    @staticmethod
    def _end(lease: Lease, error: Exception) -> None:
        try:
            lease.fail(error)
        except ConflictError as lost:
            log.warning("%s", lost)


def _give_back(leases: Sequence[Lease]) -> None:
    for lease in leases:
        if not lease.has_ended:
            try:
                lease.give_back()
            except XpertError as error:
                # Another worker takes it up when the lease has run out.
                log.warning("Cannot give back job %s: %s", lease.id, error)
