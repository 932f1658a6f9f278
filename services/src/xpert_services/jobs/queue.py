"""The queue: the jobs' records themselves, so that nothing lives in one process's memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from xpert.core.errors import ConflictError, NotFoundError
from xpert.wire import Job, JobState, Page
from xpert_services.jobs.leases import Lease
from xpert_services.jobs.state import COLLECTION, ENDED, MOST_ATTEMPTS, JobRecord, JobRequest
from xpert_services.listing import name_of, read_page
from xpert_services.store import Draft, Record, Store
from xpert_services.store.cards import new_name
from xpert_services.store.keys import collection_prefix

# Clocks of listings may have whole seconds only: what is younger could change without looking different.
SETTLED_S = 5.0


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

    def submit(self, request: JobRequest) -> Job:
        """Ask for a job. One that is under way or has succeeded is that one; one that failed or was cancelled begins again."""
        now = self._store.objects.now()
        new = JobRecord(
            kind=request.kind,
            subject=request.subject,
            inputs=dict(request.inputs),
            group=request.group,
            total=request.total,
            created=now,
            updated=now,
        )

        def decide(record: Record | None) -> Draft:
            job = JobRecord.of(record) if record else new
            again = job.state in ("failed", "cancelled") or (job.cancel and job.state == "queued")
            return (replace(new, created=job.created) if again else job).draft()

        found = self._find(request.id)
        if found is None or found.state in ("failed", "cancelled") or found.cancel:
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

    def page(self, *, after: str | None, limit: int, state: JobState | None = None) -> Page[Job]:
        """List jobs, those in one state if it is given."""
        found, following = read_page(
            self._store,
            COLLECTION,
            after=after,
            limit=limit,
            keep=lambda record: state is None or record.value.get("state") == state,
        )
        return Page[Job](items=[JobRecord.of(record).body(record.name) for record in found], next=following)

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

    def _find(self, name: str) -> JobRecord | None:
        try:
            return JobRecord.of(self._store.records.get(COLLECTION, name))
        except NotFoundError:
            return None
