"""The queue: the jobs' records themselves, so that nothing lives in one process's memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from xpert.core.errors import ConflictError, InputError, NotFoundError
from xpert.wire import Job, JobKind, JobState, Page
from xpert_services import tracing
from xpert_services.jobs.leases import Lease
from xpert_services.jobs.state import COLLECTION, ENDED, MOST_ATTEMPTS, JobRecord, JobRequest
from xpert_services.listing import name_of
from xpert_services.store import Draft, Record, Store
from xpert_services.store.cards import new_name
from xpert_services.store.keys import collection_prefix

# Clocks of listings may have whole seconds only: what is younger could change without looking different.
SETTLED_S = 5.0
# Microseconds since 1970.
TIME_DIGITS = 16


class Jobs:
    """The jobs of a store.

    Parameters
    ----------
    store
        Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # What a listing said of jobs that have ended: they are not read again until it says something else.
        self._ended: dict[str, tuple[float, int]] = {}
        # When a job was first asked for never changes: each is read once to be put in its place among the others.
        self._first: dict[str, int] = {}

    def submit(self, request: JobRequest, *, renew: bool = False) -> Job:
        """Ask for a job. One that is under way or has succeeded is that one; one that failed or was cancelled begins again.

        Parameters
        ----------
        request
            What to do.
        renew
            What such a job made is gone: one that has succeeded begins again too.
        """
        now = self._store.objects.now()
        new = JobRecord(
            kind=request.kind,
            subject=request.subject,
            inputs=dict(request.inputs),
            group=request.group,
            total=request.total,
            trace=tracing.carried(),
            created=now,
            updated=now,
        )

        over = ("failed", "cancelled", "succeeded") if renew else ("failed", "cancelled")

        def decide(record: Record | None) -> Draft:
            job = JobRecord.of(record) if record else new
            again = job.state in over or (job.cancel and job.state == "queued")
            return (replace(new, created=job.created) if again else job).draft()

        found = self._find(request.id)
        if found is None or found.state in over or found.cancel:
            found = JobRecord.of(self._store.records.update(COLLECTION, request.id, decide))
        return found.body(request.id)

    def get(self, name: str) -> Job:
        """Describe a job.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return JobRecord.of(self._store.records.get(COLLECTION, name)).body(name)

    def page(
        self,
        *,
        after: str | None,
        limit: int,
        state: JobState | None = None,
        kind: JobKind | None = None,
        base: str | None = None,
    ) -> Page[Job]:
        """List jobs, those asked for last first; of one state, kind or base where that is given.

        A page goes on after a time and an id, so that jobs which come meanwhile move nothing.

        Raises
        ------
        InputError
            ``after`` is not what a page said.
        """
        items: list[Job] = []
        last = _place(after) if after else None
        for place in sorted(self._places()):
            if last is not None and place <= last:
                continue
            job = self._find(place[1])
            if job is None or not job.fits(state=state, kind=kind, base=base):
                continue
            if len(items) == limit:
                return Page[Job](items=items, next=f"{-self._first[items[-1].id]:0{TIME_DIGITS}d}.{items[-1].id}")
            items.append(job.body(place[1]))
        return Page[Job](items=items)

    def open(self) -> Iterator[JobRecord]:
        """Read the jobs that have not ended."""
        return (job for _, job in self._open())

    def cancel(self, name: str) -> Job:
        """Stop a job: at once where nobody works on it, else at the worker's next renewal. An ended one stays as it is.

        Raises
        ------
        NotFoundError
            There is none.
        """
        now = self._store.objects.now()

        def decide(record: Record | None) -> Draft:
            if record is None:
                raise NotFoundError(f"There is no job '{name}'. Check its id.")
            job = JobRecord.of(record)
            if job.state in ENDED:
                return job.draft()
            state: JobState = "cancelled" if job.state == "queued" else job.state
            return replace(job, state=state, cancel=True, updated=now).draft()

        return JobRecord.of(self._store.records.update(COLLECTION, name, decide)).body(name)

    def take(self, *, kinds: Collection[str], lease_s: float, most: int = 16) -> list[Lease]:
        """Take the oldest job that is due, and with it others of its group.

        A job that was tried before is taken alone: it may be what brought its last worker down.
        """
        now = self._store.objects.now()
        due = [(record, job) for record, job in self._open() if job.kind in kinds and job.is_due(now)]
        taken: list[Lease] = []
        for record, job in sorted(due, key=lambda pair: pair[1].created):
            if taken and (job.attempts or job.group != taken[0].job.group):
                continue
            lease = self._lease(record, job, now, lease_s)
            if lease:
                taken.append(lease)
                if len(taken) == most or job.attempts or not job.group:
                    break
        return taken

    def _lease(self, record: Record, job: JobRecord, now: float, lease_s: float) -> Lease | None:
        """Take one job; None where another worker was first, or it only had to be ended."""
        if job.cancel:
            new = replace(job, state="cancelled", lease="", updated=now)
        elif job.attempts >= MOST_ATTEMPTS:
            told = f"Gave up: {job.attempts} workers ended or fell silent while they worked on this. Look into their logs."
            new = replace(job, state="failed", lease="", error=told, code="error", updated=now)
        else:
            new = replace(job, state="running", attempts=job.attempts + 1, lease=new_name(), deadline=now + lease_s, updated=now)
        try:
            self._store.records.replace(record, new.draft())
        except ConflictError:
            return None
        return Lease(self._store, record.name, new, lease_s=lease_s) if new.state == "running" else None

    def _open(self) -> Iterator[tuple[Record, JobRecord]]:
        now = self._store.objects.now()
        for info in self._store.objects.scan(collection_prefix(COLLECTION)):
            looks = (info.modified, info.size)
            if self._ended.get(info.key) == looks:
                continue
            try:
                record = self._store.records.get(COLLECTION, name_of(info.key))
                job = JobRecord.of(record)
            except NotFoundError:
                continue
            if job.state not in ENDED:
                yield record, job
            elif info.modified < now - SETTLED_S:
                self._ended[info.key] = looks

    def _places(self) -> Iterator[tuple[int, str]]:
        """Tell where each job stands in the list: microseconds since 1970 below zero, then the id."""
        for info in self._store.objects.scan(collection_prefix(COLLECTION)):
            name = name_of(info.key)
            if name not in self._first:
                job = self._find(name)
                if job is None:
                    continue
                self._first[name] = -round(job.created * 1e6)
            yield self._first[name], name

    def _find(self, name: str) -> JobRecord | None:
        try:
            return JobRecord.of(self._store.records.get(COLLECTION, name))
        except NotFoundError:
            return None


def _place(after: str) -> tuple[int, str]:
    time, mark, name = after.partition(".")
    if not (mark and time.isdecimal() and len(time) <= TIME_DIGITS):
        raise InputError(f"{after!r} is no job to go on after: expected what 'next' of the page before says.")
    return -int(time), name
