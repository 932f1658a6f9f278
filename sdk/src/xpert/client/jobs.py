"""Waiting for a job: by its events, and by asking again where they do not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from httpx2 import ServerSentEvent
from pydantic import ValidationError

from xpert.client.exchange import Answer, Exchange, Operation, Pause, Progress, Request
from xpert.client.link import segment
from xpert.client.publishing import get
from xpert.core.errors import ConflictError, NotFoundError, UnavailableError, XpertError
from xpert.wire import STATUS, Job, Problem, exception_of

ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Listen(Exchange[None]):
    """Listen to a job's events until it ends, or the stream does: either way the job is asked for again."""

    attempts = 1
    events = True

    def __init__(self, id_: str, tell: Callable[[Job], object]) -> None:
        self._target, self._tell = f"/v1/jobs/{segment(id_)}/events", tell
        self.heard = self.ended = False

    def request(self) -> Request:
        """Ask for the events."""
        return Request(method="GET", target=self._target, headers={"Accept": "text/event-stream"})

    def refused(self, answer: Answer) -> bool:
        """Take it that a server, or what stands before it, has no events."""
        return answer.status not in {401, 403}

    def event(self, event: ServerSentEvent) -> bool:
        """Tell of a job's new state; True when it has ended."""
        try:
            job = Job.model_validate_json(event.data)
        except ValidationError:
            return False
        self.heard = True
        self._tell(job)
        self.ended = job.state in ENDED
        return self.ended

    def result(self) -> None:
        """Return nothing: the job itself is asked for next."""


def wait(id_: str, *, progress: Progress | None, timeout: float | None, poll: float) -> Operation[Job]:
    """Wait until a job has succeeded and return it.

    Raises
    ------
    XpertError
        It failed: the error it failed with.
    ConflictError
        It was cancelled.
    UnavailableError
        It has not ended in time; it goes on.
    """
    began = time.monotonic()
    # A stream that only says that it is alive could not be left in time.
    listening = timeout is None

    def tell(job: Job) -> None:
        if progress:
            progress(job.done, job.total)
        if timeout is not None and job.state not in ENDED and time.monotonic() - began > timeout:
            raise _late(job, timeout)

    while True:
        job = yield from get(Job, f"/v1/jobs/{segment(id_)}")
        tell(job)
        if job.state in ENDED:
            return _ended(job)
        if listening:
            listen = Listen(id_, tell)
            with suppress(UnavailableError, NotFoundError):
                yield listen
            listening = listen.heard
            if listen.ended:
                continue
        yield Pause(poll)


def _ended(job: Job) -> Job:
    if job.state == "succeeded":
        return job
    if job.state == "cancelled":
        raise ConflictError(f"The job {job.id[:12]} ({job.kind} {job.subject}) was cancelled. Ask again to have it done.")
    code = job.code or XpertError.code
    said = f"The job {job.id[:12]} ({job.kind} {job.subject}) failed: {job.error or 'no reason given'}"
    problem = Problem(type=f"urn:xpert:{code}", title=code, status=STATUS.get(code, 500), detail=said, code=code)
    raise exception_of(problem)


def _late(job: Job, timeout: float) -> UnavailableError:
    return UnavailableError(
        f"The job {job.id[:12]} is {job.state} after {timeout:g} seconds, {job.done} of {job.total} steps done. It goes on; wait "
        "again."
    )
