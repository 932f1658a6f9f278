"""A lease: the right to work on a job, lost when it is not renewed in time."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from xpert.core.errors import ConflictError, XpertError
from xpert.wire import JobState
from xpert_services import tracing
from xpert_services.jobs.state import COLLECTION, MOST_ATTEMPTS, JobRecord
from xpert_services.metering import JOBS_ENDED
from xpert_services.store import Record, Store
from xpert_services.store.records import Draft

TRANSIENT = ("storage", "unavailable")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
RENEWALS_A_LEASE = 4
LONGEST_SILENCE_S = 2.0

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 - no error: someone wants the work to stop
    """The job was cancelled, its lease is lost, or the worker shall end."""


class Lease:
    """The right to work on one job.

    Every write is made only where the record still names this lease: a worker that was silent for too long, and whose job
    another has taken up, is refused.

    Parameters
    ----------
    store
        Where the job is.
    name
        The job's id.
    job
        What its record said when the lease was taken.
    lease_s
        Seconds until the lease runs out without a renewal.

    Attributes
    ----------
    left
        In which state this lease left the job, once it has ended.
    """

    def __init__(self, store: Store, name: str, job: JobRecord, *, lease_s: float) -> None:
        self._store, self._lease_s = store, lease_s
        self._lock = threading.Lock()
        self._steps = (job.done, job.total)
        self.id, self.job = name, job
        self.is_lost = self.is_cancelled = self.is_returned = self.has_ended = False
        self.left: JobState = "running"

    @property
    def is_stopped(self) -> bool:
        """Whether working on is of no use."""
        return self.is_lost or self.is_cancelled or self.is_returned or self.has_ended

    def report(self, done: int, total: int) -> None:
        """Note the progress; the next renewal writes it."""
        self._steps = (done, total)

    def renew(self) -> None:
        """Write the progress and a new deadline; look whether the job was cancelled.

        Raises
        ------
        Stopped
            It was, or the lease is lost.
        """
        with self._lock:
            if not self.is_stopped:
                try:
                    self.is_cancelled = self._write(lambda job, now: replace(job, deadline=now + self._lease_s)).cancel
                except ConflictError:
                    self.is_lost = True
        if self.is_stopped:
            raise Stopped

    def succeed(self, result: Mapping[str, str]) -> None:
        """End the job with its result, in one conditional write.

        Raises
        ------
        ConflictError
            The lease was lost: another worker has the job, or has ended it.
        """
        self._end(lambda job, _: replace(job, state="succeeded", result=dict(result), done=job.total, error=None, code=None))

    def fail(self, error: Exception, *, result: Mapping[str, str] | None = None) -> None:
        """End the job with an error, or put it back into the queue where the error may pass.

        Raises
        ------
        ConflictError
            The lease was lost.
        """
        known = error if isinstance(error, XpertError) else XpertError(f"Unexpected: {type(error).__name__}: {error}.")
        told = {"error": str(known), "code": known.code, "result": dict(result or {})}

        def change(job: JobRecord, now: float) -> JobRecord:
            if known.code in TRANSIENT and job.attempts < MOST_ATTEMPTS:
                return replace(job, state="queued", not_before=now + pause(job.attempts), **told)  # type: ignore[arg-type]
            return replace(job, state="failed", **told)  # type: ignore[arg-type]

        self._end(change)

    def give_up(self) -> None:
        """End the job as cancelled; nothing happens where the lease is lost."""
        with contextlib.suppress(ConflictError):
            self._end(lambda job, _: replace(job, state="cancelled"))

    def give_back(self) -> None:
        """Put the job back into the queue as if it had not been taken: the worker is about to end."""
        self.is_returned = True
        with contextlib.suppress(ConflictError):
            self._end(lambda job, _: replace(job, state="queued", attempts=job.attempts - 1))

    def _end(self, change: Callable[[JobRecord, float], JobRecord]) -> None:
        with self._lock:
            ended = self._write(lambda job, now: replace(change(job, now), lease="", deadline=0.0))
            self.has_ended, self.left = True, ended.state
        JOBS_ENDED.record(kind=ended.kind, state=ended.state)
        told = {"job": self.id, "kind": ended.kind, "state": ended.state, "attempt": ended.attempts, "error": ended.error}
        if ended.trace:
            # Its own: the trace that is under way is that of the first job of those that are done together.
            told["trace_id"] = tracing.id_of(ended.trace)
        log.info("Job %s: %s", self.id, ended.state, extra={"told": told})

    def _write(self, change: Callable[[JobRecord, float], JobRecord]) -> JobRecord:
        now = self._store.objects.now()

        def decide(record: Record | None) -> Draft:
            job = JobRecord.of(record) if record else None
            if job is None or job.state != "running" or job.lease != self.job.lease:
                raise ConflictError(f"The lease of job {self.id} was lost: another worker has it. Drop the work.")
            done, total = self._steps
            return change(replace(job, done=done, total=total, updated=now), now).draft()

        return JobRecord.of(self._store.records.update(COLLECTION, self.id, decide))


def pause(n_attempts: int) -> float:
    """Return the seconds to wait after the ``n_attempts``-th attempt: doubling, and no two jobs alike."""
    return min(FIRST_PAUSE_S * 2.0 ** (n_attempts - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)


def progress_of(leases: Sequence[Lease]) -> Callable[[int, int], None]:
    """Return a function that notes the progress of jobs that are done together, and stops when none of them is wanted."""

    def report(done: int, total: int) -> None:
        for lease in leases:
            lease.report(done, total)
        if all(lease.is_stopped for lease in leases):
            raise Stopped

    return report


@contextmanager
def renewed(leases: Sequence[Lease], *, lease_s: float) -> Iterator[None]:
    """Renew leases in a thread of its own while the block runs."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(min(lease_s / RENEWALS_A_LEASE, LONGEST_SILENCE_S)):
            for lease in leases:
                try:
                    lease.renew()
                except Stopped:
                    continue
                except XpertError as error:
                    # The deadline is some renewals away: the next one may succeed.
                    log.warning("Cannot renew the lease of job %s: %s", lease.id, error)

    thread = threading.Thread(target=renew, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
