"""Catalogues: what phones fetch to choose by themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from xpert.wire import CatalogueInfo, Pllm
from xpert.wire.bodies import CellName, Digest, PllmId
from xpert_services.api.parts import PROBLEMS, Name, Parts, SpaceQuery, needs
from xpert_services.catalogue import Built
from xpert_services.services import Services

COMPACT = "application/vnd.xpert.catalogue"
DELTA = "application/vnd.xpert.catalogue-delta"
CELLS = "application/vnd.xpert.catalogue-cells"
CELL = "application/vnd.xpert.catalogue-cell"
JSON = "application/json"
BINARY = {"schema": {"type": "string", "format": "binary"}}

HEADERS = {"vary": "Accept, Authorization", "cache-control": "private, no-cache"}
LONGEST_TAGS = 2000

router = APIRouter(prefix="/v1/catalogues", tags=["catalogues"], responses=PROBLEMS)


class CatalogueQuery(SpaceQuery):
    """Which catalogue, and since which version what changed."""

    since: Digest | None = None


@router.get(
    "/{base}",
    dependencies=[needs("read")],
    response_model=CatalogueInfo,
    responses={
        200: {"content": dict.fromkeys((COMPACT, DELTA), BINARY)},
        304: {"description": "It is still the version that If-None-Match names."},
    },
)
async def get_catalogue(
    request: Request,
    services: Parts,
    base: Name,
    query: Annotated[CatalogueQuery, Query()],
    if_none_match: Annotated[str | None, Header(max_length=LONGEST_TAGS)] = None,
) -> Response:
    """Return the compact catalogue, or what changed since a version (the whole where that is too long ago).

    With ``Accept: application/json`` it is described instead: version, and the pLLMs' names in the order of the rows.
    """
    # What is in memory is answered without a thread: that would cost more than the answer.
    built = _held(services, base, query)
    if built is None:
        built = await run_in_threadpool(_built, services, base, query)
    accept = request.headers.get("accept", "")
    if not (query.since or _described(accept)):
        return _whole(built, if_none_match)
    headers = dict(HEADERS)
    # Who names the present version with `since` as well has nothing to fetch: that is asked before a delta is made.
    present = f'"{built.info.version}"'
    if query.since and if_none_match and not _described(accept) and _matches(if_none_match, present):
        return Response(status_code=304, headers={**headers, "etag": present})
    kind, data = await run_in_threadpool(_chosen, built, accept, query.since)
    headers["etag"] = f'"{built.info.version}{_suffix(kind, query.since)}"'
    if if_none_match and _matches(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


WHOLE = next(route for route in router.routes if isinstance(route, APIRoute))


@router.get(
    "/{base}/cells",
    dependencies=[needs("read")],
    response_class=Response,
    responses={
        200: {"content": {CELLS: BINARY}},
        304: {"description": "It is still the index that If-None-Match names."},
    },
)
def get_cells(
    services: Parts,
    base: Name,
    query: Annotated[SpaceQuery, Query()],
    if_none_match: Annotated[str | None, Header(max_length=LONGEST_TAGS)] = None,
) -> Response:
    """Return the index of the catalogue's cells, for phones that cannot take the whole of it."""
    cells = _built(services, base, query).cells
    tag = f'"{cells.digest}"'
    headers = {"etag": tag, "vary": "Authorization", "cache-control": "private, no-cache"}
    if if_none_match and _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(cells.index, media_type=CELLS, headers=headers)


@router.get(
    "/{base}/cells/{cell}",
    dependencies=[needs("read")],
    response_class=Response,
    responses={200: {"content": {CELL: BINARY}}},
)
def get_cell(services: Parts, base: Name, cell: CellName, query: Annotated[SpaceQuery, Query()]) -> Response:
    """Return one cell of the index whose digest begins its name; 404 where there is a newer index."""
    data = _built(services, base, query).cells.named(cell)
    headers = {"etag": f'"{cell}"', "vary": "Authorization", "cache-control": "private, max-age=604800, immutable"}
    return Response(data, media_type=CELL, headers=headers)


@router.get("/{base}/pllms/{id}", dependencies=[needs("read")])
def get_pllm_by_id(services: Parts, base: Name, id_: Annotated[PllmId, Path(alias="id")]) -> Pllm:
    """Describe a pLLM by its id in a catalogue of the base, in whichever style space: who chose from a cell has no name."""
    space = services.spaces.default().digest
    return services.pllms.get(base, services.catalogues.name_of(base, id_, first=space), space=space)


def _built(services: Services, base: str, query: SpaceQuery) -> Built:
    return services.catalogues.get(base, _space(services, query))


class AtHand:
    """Answers for the whole catalogue, where it is in memory, before the framework looks at a request.

    Phones ask for this again and again, and finding the route, the query and what it depends on costs several times as much as
    the answer. Everything else, a query among it, goes on to the routes.

    Parameters
    ----------
    app
        What is behind it.
    services
        What it serves; the gate has let the request through.
    """

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or pass it on."""
        await (self._answer(scope) or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return None
        head, _, base = scope["path"].rpartition("/")
        if head != router.prefix:
            return None
        built = _held(self._services, base, SpaceQuery())
        headers = Headers(scope=scope)
        asked = headers.get("if-none-match")
        if built is None or _described(headers.get("accept", "")) or len(asked or "") > LONGEST_TAGS:
            return None
        scope["route"] = WHOLE
        return _whole(built, asked)


def _whole(built: Built, asked: str | None) -> Response:
    headers = {**HEADERS, "etag": f'"{built.info.version}"'}
    if asked and _matches(asked, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(built.compact, media_type=COMPACT, headers=headers)


def _held(services: Services, base: str, query: SpaceQuery) -> Built | None:
    space = query.space or services.spaces.default_digest
    return services.catalogues.held(base, space) if space else None


def _space(services: Services, query: SpaceQuery) -> str:
    return query.space or services.spaces.default().digest


def _chosen(built: Built, accept: str, since: str | None) -> tuple[str, bytes]:
    if _described(accept):
        return JSON, built.info.model_dump_json().encode()
    delta = built.delta(since) if since else None
    return (COMPACT, built.compact) if delta is None else (DELTA, delta)


def _described(accept: str) -> bool:
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return JSON in kinds and COMPACT not in kinds


def _suffix(kind: str, since: str | None) -> str:
    return {JSON: ".json", DELTA: f".{since}", COMPACT: ""}[kind]


def _matches(header: str, tag: str) -> bool:
    tags = [part.strip().removeprefix("W/") for part in header.split(",")]
    return tag in tags or "*" in tags
