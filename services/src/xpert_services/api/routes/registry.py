"""Base models and style spaces."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from xpert.wire import Base, BaseDraft, Job, Page, Space, SpaceDraft
from xpert.wire.bodies import Digest
from xpert_services.api.parts import PROBLEMS, Name, PageQuery, Parts, needs

router = APIRouter(prefix="/v1", tags=["bases and spaces"], responses=PROBLEMS)


@router.get("/bases", dependencies=[needs("read")])
def list_bases(services: Parts, query: Annotated[PageQuery, Query()]) -> Page[Base]:
    """List the base models."""
    return services.bases.page(after=query.after, limit=query.limit)


@router.post("/bases", status_code=201, dependencies=[needs("publish")], responses={200: {"model": Base}})
def register_base(services: Parts, draft: BaseDraft, response: Response) -> Base:
    """Register a base model that the server can load; the same again answers 200."""
    base, is_new = services.bases.register(draft)
    response.status_code = 201 if is_new else 200
    return base


@router.get("/bases/{name}", dependencies=[needs("read")])
def get_base(services: Parts, name: Name) -> Base:
    """Describe a base model."""
    return services.bases.get(name)


@router.get("/spaces", dependencies=[needs("read")])
def list_spaces(services: Parts, query: Annotated[PageQuery, Query()]) -> Page[Space]:
    """List the style spaces."""
    services.spaces.default()
    return services.spaces.page(after=query.after, limit=query.limit)


@router.post(
    "/spaces",
    status_code=201,
    dependencies=[needs("publish")],
    responses={200: {"model": Space}, 202: {"model": Job, "description": "It is being built."}},
)
def register_space(services: Parts, draft: SpaceDraft, response: Response) -> Space | Job:
    """Register an uploaded style space (the same again answers 200), or build one from uploaded exemplars: a job."""
    if draft.artifact is None:
        response.status_code = 202
        return services.builds.ask(draft)
    space, is_new = services.spaces.register(draft.artifact)
    response.status_code = 201 if is_new else 200
    return space


@router.get("/spaces/{digest}", dependencies=[needs("read")])
def get_space(services: Parts, digest: Digest) -> Space:
    """Describe a style space."""
    return services.spaces.get(digest)
