"""What a job's record says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

from xpert.core.errors import FileFormatError
from xpert.core.files import sha256_hex
from xpert.wire import Job, JobKind, JobState
from xpert_services.store import Draft, Record

COLLECTION = "jobs"
KINDS: tuple[JobKind, ...] = get_args(JobKind)
HELD = ("exemplars",)
"""Inputs that are digests of artifacts to which nothing else refers before the job has ended."""

MOST_ATTEMPTS = 5
ENDED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is asked.

    Attributes
    ----------
    kind
        Which handler does it.
    subject
        What it is about, for people.
    inputs
        Everything the result depends on, by digest; the job's identity.
    group
        Jobs of one group may be done together; empty: alone.
    total
        Steps expected, where they are known.
    """

    kind: JobKind
    subject: str
    inputs: Mapping[str, Any]
    group: str = ""
    total: int = 0

    @property
    def id(self) -> str:
        """Digest of what is asked: asking twice is one job."""
        return sha256_hex(json.dumps([self.kind, self.inputs], sort_keys=True, ensure_ascii=False).encode())


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as the store has it; times in seconds since 1970 by the store's clock.

    Attributes
    ----------
    lease, deadline
        Who works on it (a name that is never used again), and until when that holds without a renewal.
    not_before
        When it may be tried again.
    cancel
        Whether someone wants it to stop.
    trace
        Context of the trace in which it was asked for; empty where there was none.
    """

    kind: JobKind
    subject: str
    inputs: Mapping[str, Any]
    group: str = ""
    state: JobState = "queued"
    done: int = 0
    total: int = 0
    attempts: int = 0
    lease: str = ""
    deadline: float = 0.0
    not_before: float = 0.0
    cancel: bool = False
    result: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None
    trace: str = ""
    created: float = 0.0
    updated: float = 0.0

    @classmethod
    def of(cls, record: Record) -> JobRecord:
        """Read a record.

        Raises
        ------
        FileFormatError
            It is no job.
        """
        try:
            return cls(**record.value)
        except TypeError as error:
            raise FileFormatError(f"The record '{record.name}' is no usable job: {error}. Restore it from a backup.") from error

    def draft(self) -> Draft:
        """Return what to write."""
        # What it still needs is not collected while it waits.
        held = {} if self.state in ENDED else {role: self.inputs[role] for role in HELD if role in self.inputs}
        return Draft(asdict(self), held)

    def fits(self, *, state: JobState | None, kind: JobKind | None, base: str | None) -> bool:
        """Tell whether it is one of those that a list asks for; None: whichever."""
        return state in (None, self.state) and kind in (None, self.kind) and base in (None, self.inputs.get("base"))

    def is_due(self, now: float) -> bool:
        """Tell whether a worker may take it: it waits for one, or its worker has been silent for too long."""
        return (self.state == "queued" and self.not_before <= now) or (self.state == "running" and self.deadline < now)

    def body(self, name: str) -> Job:
        """Return what callers see of it."""
        return Job(
            id=name,
            kind=self.kind,
            state=self.state,
            done=self.done,
            total=self.total,
            attempts=self.attempts,
            subject=self.subject,
            result=dict(self.result),
            error=self.error,
            code=self.code,
            created=datetime.fromtimestamp(self.created, UTC),
            updated=datetime.fromtimestamp(self.updated, UTC),
        )
