"""Jobs: state, progress as it happens, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from xpert.wire import Job, JobKind, JobState, Page
from xpert.wire.bodies import Digest
from xpert_services.api.parts import PROBLEMS, Name, PageQuery, Parts, needs
from xpert_services.jobs import Jobs
from xpert_services.jobs.state import ENDED

LOOK_S = 0.5

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

Id = Annotated[Digest, Path()]


class JobQuery(PageQuery):
    """Which jobs."""

    state: JobState | None = None
    kind: JobKind | None = None
    base: Name | None = None


@router.get("", dependencies=[needs("read")])
def list_jobs(services: Parts, query: Annotated[JobQuery, Query()]) -> Page[Job]:
    """List jobs, those asked for last first."""
    return services.jobs.page(**query.model_dump())


@router.get("/{id}", dependencies=[needs("read")])
def get_job(services: Parts, id: Id) -> Job:  # noqa: A002
    """Describe a job."""
    return services.jobs.get(id)


@router.delete("/{id}", status_code=202, dependencies=[needs("publish")])
def cancel_job(services: Parts, id: Id) -> Job:  # noqa: A002
    """Cancel a job: at once where it waits, soon where it runs; an ended one stays as it is."""
    return services.jobs.cancel(id)


@router.get(
    "/{id}/events",
    dependencies=[needs("read")],
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events 'job'."}},
)
async def watch_job(services: Parts, id: Id) -> EventSourceResponse:  # noqa: A002
    """Send the job, as server-sent events named 'job', whenever it changed; the last one says how it ended."""
    first = await run_in_threadpool(services.jobs.get, id)
    return EventSourceResponse(_changes(services.jobs, first))


async def _changes(jobs: Jobs, job: Job) -> AsyncIterator[ServerSentEvent]:
    yield _event(job)
    while job.state not in ENDED:
        await asyncio.sleep(LOOK_S)
        now = await run_in_threadpool(jobs.get, job.id)
        # A renewal alone is no news.
        if now.model_copy(update={"updated": job.updated}) != job:
            yield _event(now)
        job = now


def _event(job: Job) -> ServerSentEvent:
    return ServerSentEvent(event="job", data=job.model_dump_json())
