"""Bytes out: downloads from signed addresses of this server, or of the bucket itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.responses import RedirectResponse, StreamingResponse

from xpert.core.errors import FileFormatError, InputError, NotFoundError
from xpert.wire.bodies import Digest
from xpert_services.api.parts import PROBLEMS, Parts, needs
from xpert_services.api.problems import Refused
from xpert_services.services import Services
from xpert_services.store.cards import Card, read_card

BINARY = "application/octet-stream"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")

router = APIRouter(prefix="/v1", tags=["files"], responses=PROBLEMS)


class DownloadAddress(BaseModel):
    """What an address for a download allows."""

    model_config = ConfigDict(extra="forbid")

    expires: int
    signature: Digest


@router.get("/artifacts/{digest}", status_code=307, response_class=RedirectResponse, dependencies=[needs("read")])
def get_artifact(services: Parts, digest: Digest) -> Response:
    """Lead to a signed address of an artifact's bytes, which serves ranges."""
    return _redirect(services, digest, "GET")


@router.head("/artifacts/{digest}", status_code=307, response_class=RedirectResponse, dependencies=[needs("read")])
def head_artifact(services: Parts, digest: Digest) -> Response:
    """Lead to a signed address of an artifact's bytes, which serves ranges."""
    return _redirect(services, digest, "HEAD")


DOWNLOADS: dict[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
    for status, told in {200: "All bytes.", 206: "The range asked for."}.items()
}


@router.get("/downloads/{digest}", response_class=StreamingResponse, responses=DOWNLOADS)
def download(
    request: Request,
    services: Parts,
    digest: Digest,
    address: Annotated[DownloadAddress, Query()],
    range_: Annotated[str | None, Header(alias="range", max_length=200)] = None,
    if_range: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Send the bytes of an artifact, or one range of them."""
    return _download(services, digest, address, range_ if if_range in (None, f'"{digest}"') else None, is_head=False)


@router.head("/downloads/{digest}", response_class=Response)
def head_download(services: Parts, digest: Digest, address: Annotated[DownloadAddress, Query()]) -> Response:
    """Describe the bytes of an artifact."""
    return _download(services, digest, address, None, is_head=True)


def _redirect(services: Services, digest: str, method: str) -> Response:
    services.store.artifacts.stat(digest)
    reason = services.quarantine.reason(digest)
    if reason:
        raise FileFormatError(f"The artifact {digest[:12]} is in quarantine: {reason}")
    direct = services.direct.download(digest, method=method) if services.direct else None
    if direct:
        return Response(status_code=307, headers={"location": direct})
    query = services.signer.sign("download", {"digest": digest})
    query.pop("digest")
    return Response(status_code=307, headers={"location": f"/v1/downloads/{digest}?{urlencode(query)}"})


def _download(services: Services, digest: str, address: DownloadAddress, asked: str | None, *, is_head: bool) -> Response:
    query = {name: str(value) for name, value in address.model_dump().items()}
    services.signer.check("download", {"digest": digest, **query})
    found = read_card(services.store.objects, digest)
    if found is None or not found[0].readable:
        raise NotFoundError(f"The artifact {digest} is not in the store any more.")
    card = found[0]
    span = _span(asked, card.size) if asked else None
    start, end = span or (0, card.size)
    headers = {"etag": f'"{digest}"', "accept-ranges": "bytes", "content-length": str(end - start)}
    if span:
        headers["content-range"] = f"bytes {start}-{end - 1}/{card.size}"
    if is_head:
        return Response(headers=headers, media_type=BINARY)
    status = 206 if span else 200
    return StreamingResponse(_bytes(services, card, start, end), status_code=status, headers=headers, media_type=BINARY)


def _bytes(services: Services, card: Card, start: int, end: int) -> Iterator[bytes]:
    return services.store.objects.read(card.blob, start=start, end=end) if end > start else iter(())


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Return start and end of the range asked for; None for what may be ignored: several ranges, other units.

    Raises
    ------
    Refused
        It lies outside of the file.
    """
    found = RANGE.fullmatch(asked.strip())
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        start, end = int(found[1]), min(int(found[2] or size - 1) + 1, size)
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= end:
        told = f"The file has {size} bytes; the range {asked!r} holds none of them."
        raise Refused(InputError(told), 416, {"content-range": f"bytes */{size}"})
    return start, end
