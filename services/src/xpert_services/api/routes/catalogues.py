"""Catalogues: what phones fetch to choose by themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from xpert.wire import CatalogueInfo
from xpert.wire.bodies import Digest
from xpert_services.api.parts import PROBLEMS, Name, Parts, SpaceQuery, needs
from xpert_services.catalogue import Built

COMPACT = "application/vnd.xpert.catalogue"
DELTA = "application/vnd.xpert.catalogue-delta"
JSON = "application/json"

router = APIRouter(prefix="/v1/catalogues", tags=["catalogues"], responses=PROBLEMS)


class CatalogueQuery(SpaceQuery):
    """Which catalogue, and since which version what changed."""

    since: Digest | None = None


@router.get(
    "/{base}",
    dependencies=[needs("read")],
    response_model=CatalogueInfo,
    responses={
        200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (COMPACT, DELTA)}},
        304: {"description": "It is still the version that If-None-Match names."},
    },
)
def get_catalogue(
    request: Request,
    services: Parts,
    base: Name,
    query: Annotated[CatalogueQuery, Query()],
    if_none_match: Annotated[str | None, Header(max_length=2000)] = None,
) -> Response:
    """Return the compact catalogue, or what changed since a version (the whole where that is too long ago).

    With ``Accept: application/json`` it is described instead: version, and the pLLMs' names in the order of the rows.
    """
    built = services.catalogues.get(base, query.space or services.spaces.default().digest)
    kind, data = _chosen(built, request.headers.get("accept", ""), query.since)
    tag = f'"{built.info.version}{_suffix(kind, query.since)}"'
    headers = {"etag": tag, "vary": "Accept, Authorization", "cache-control": "private, no-cache"}
    if if_none_match and _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _chosen(built: Built, accept: str, since: str | None) -> tuple[str, bytes]:
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if JSON in kinds and COMPACT not in kinds:
        return JSON, built.info.model_dump_json().encode()
    delta = built.delta(since) if since else None
    return (COMPACT, built.compact) if delta is None else (DELTA, delta)


def _suffix(kind: str, since: str | None) -> str:
    return {JSON: ".json", DELTA: f".{since}", COMPACT: ""}[kind]


def _matches(header: str, tag: str) -> bool:
    tags = [part.strip().removeprefix("W/") for part in header.split(",")]
    return tag in tags or "*" in tags
