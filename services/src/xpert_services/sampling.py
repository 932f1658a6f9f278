"""What is measured by looking: open jobs, the queue's age, the catalogues' sizes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from xpert.core.errors import NotFoundError
from xpert_services import metering
from xpert_services.jobs import KINDS
from xpert_services.services import Services

EVERY_S = 15.0
STATES = ("queued", "running")

log = logging.getLogger(__name__)


class Sampler:
    """Looks at a store from time to time; as it reads every catalogue, they are in memory before someone asks.

    Parameters
    ----------
    services
        What it looks at.
    every_s
        How often.
    """

    def __init__(self, services: Services, *, every_s: float = EVERY_S) -> None:
        self._services, self._every_s = services, every_s
        self._over = threading.Event()

    def stop(self) -> None:
        """End `run`."""
        self._over.set()

    def run(self) -> None:
        """Look until `stop` is called."""
        while not self._over.is_set():
            try:
                self.look()
            except Exception as error:
                # The store may be away for a while; numbers are missing then, nothing else.
                log.warning("Cannot measure the store and tries again: %s", error)
            self._over.wait(self._every_s)

    def look(self) -> None:
        """Measure once."""
        self._look_at_jobs()
        for base, space in self._services.catalogues.known():
            try:
                info = self._services.catalogues.get(base, space).info
                n_pllms, n_bytes = info.n_pllms, info.n_bytes
            except NotFoundError:
                n_pllms = n_bytes = 0  # its last pLLM was removed
            metering.CATALOGUE_PLLMS.record(n_pllms, base=base, space=space)
            metering.CATALOGUE_BYTES.record(n_bytes, base=base, space=space)

    def _look_at_jobs(self) -> None:
        now = self._services.store.objects.now()
        counts: Counter[tuple[str, str]] = Counter()
        waiting = dict.fromkeys(KINDS, 0.0)
        for job in self._services.jobs.open():
            counts[job.kind, job.state] += 1
            if job.is_due(now):
                since = job.created if job.state == "queued" and not job.not_before else max(job.not_before, job.deadline)
                waiting[job.kind] = max(waiting[job.kind], now - since)
        for kind in KINDS:
            metering.QUEUE_SECONDS.record(waiting[kind], kind=kind)
            for state in STATES:
                metering.JOBS_OPEN.record(counts[kind, state], kind=kind, state=state)


@contextmanager
def sampling(services: Services, *, every_s: float = EVERY_S) -> Iterator[None]:
    """Measure in a thread of its own while the block runs."""
    sampler = Sampler(services, every_s=every_s)
    thread = threading.Thread(target=sampler.run, name="sampler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        sampler.stop()
        thread.join()
