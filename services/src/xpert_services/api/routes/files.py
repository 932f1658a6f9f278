"""Bytes in and out: uploads and downloads under signed addresses."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, StreamingResponse

from xpert.core.errors import FileFormatError, InputError, NotFoundError, StorageError, TooLargeError
from xpert.core.exemplars import load_exemplars
from xpert.core.files import refuse_pickle
from xpert.models.digest import tensor_digests
from xpert.wire import ArtifactUpload, UploadDraft
from xpert.wire.bodies import Digest, UploadKind
from xpert_services.access import Caller
from xpert_services.api.parts import PROBLEMS, Parts, needs
from xpert_services.api.problems import Refused
from xpert_services.registry.pllms import CONFIG_BYTES
from xpert_services.services import Services
from xpert_services.store.artifacts import Kind
from xpert_services.store.cards import Card, read_card

EXEMPLAR_BYTES = 8 * 2**20
BINARY = "application/octet-stream"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")

router = APIRouter(prefix="/v1", tags=["files"], responses=PROBLEMS)


class UploadAddress(BaseModel):
    """What an address for an upload allows."""

    model_config = ConfigDict(extra="forbid")

    kind: UploadKind
    size: int = Field(ge=1)
    token: str = Field(pattern=r"^[0-9a-z]{1,32}$")
    expires: int
    signature: Digest


class DownloadAddress(BaseModel):
    """What an address for a download allows."""

    model_config = ConfigDict(extra="forbid")

    expires: int
    signature: Digest


@router.post("/uploads")
def ask_upload(
    request: Request, services: Parts, draft: UploadDraft, caller: Annotated[Caller, needs("publish")]
) -> ArtifactUpload:
    """Say where to PUT a file; nothing needs to be sent where the store has it."""
    if draft.size > services.settings.most_bytes:
        raise TooLargeError(f"Files of at most {services.settings.most_bytes} bytes are taken, this one has {draft.size}.")
    try:
        services.store.artifacts.protect([draft.digest])
        return ArtifactUpload(digest=draft.digest, present=True)
    except NotFoundError:
        allowed = {"digest": draft.digest, "kind": draft.kind, "size": str(draft.size), "token": caller.id}
    query = services.signer.sign("upload", allowed)
    front = (request.app.state.public_url or str(request.base_url)).rstrip("/")
    query.pop("digest")
    return ArtifactUpload(
        digest=draft.digest,
        present=False,
        url=f"{front}/v1/uploads/{draft.digest}?{urlencode(query)}",
        headers={"content-type": BINARY},
        expires=datetime.fromtimestamp(int(query["expires"]), UTC),
    )


@router.put(
    "/uploads/{digest}",
    status_code=204,
    response_class=Response,
    openapi_extra={"requestBody": {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def upload(request: Request, services: Parts, digest: Digest, address: Annotated[UploadAddress, Query()]) -> None:
    """Take the bytes of a file at an address that POST /v1/uploads gave; they must have the digest and size asked for."""
    query = {name: str(value) for name, value in address.model_dump().items()}
    await run_in_threadpool(services.signer.check, "upload", {"digest": digest, **query})
    # For the log of writes: who asked for the address answers for what is sent there.
    request.state.caller = Caller(address.token, "upload", "publish")
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = FilePath(folder) / "upload"
        await _receive(request, path, digest=digest, size=address.size)
        await run_in_threadpool(_keep, services, path, address.kind)


@router.get("/artifacts/{digest}", status_code=307, response_class=RedirectResponse, dependencies=[needs("read")])
def get_artifact(services: Parts, digest: Digest) -> Response:
    """Lead to a signed address of an artifact's bytes, which serves ranges."""
    return _redirect(services, digest)


@router.head("/artifacts/{digest}", status_code=307, response_class=RedirectResponse, dependencies=[needs("read")])
def head_artifact(services: Parts, digest: Digest) -> Response:
    """Lead to a signed address of an artifact's bytes, which serves ranges."""
    return _redirect(services, digest)


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


async def _receive(request: Request, path: FilePath, *, digest: str, size: int) -> None:
    found, left = hashlib.sha256(), size
    try:
        with path.open("wb") as stream:
            async for data in request.stream():
                left -= len(data)
                if left < 0:
                    raise TooLargeError(f"More bytes came than the {size} that were announced. Ask for another address.")
                found.update(data)
                await run_in_threadpool(stream.write, data)
    except OSError as error:
        raise StorageError(f"Cannot keep the upload: {error.strerror}. Try again later.") from error
    if left or found.hexdigest() != digest:
        raise FileFormatError(
            f"{size - left} bytes of digest {found.hexdigest()[:12]} came, expected {size} of {digest[:12]}. Send the file again."
        )


def _keep(services: Services, path: FilePath, kind: str) -> None:
    """Store what came, if it is safetensors or a JSON object by its content: nothing else has a place here."""
    with path.open("rb") as stream:
        head = stream.read(9)
    refuse_pickle(FilePath("the upload"), head)
    if kind == "exemplars":
        _check_exemplars(path)
    elif head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8:
        tensor_digests(path)
    elif not _is_object(path):
        raise FileFormatError(
            "The upload is neither safetensors nor a JSON object. Send an adapter's or a space's files, or exemplars."
        )
    # Signed, so it is one of them.
    services.store.artifacts.put(path, kind=cast("Kind", kind))


def _check_exemplars(path: FilePath) -> None:
    size = path.stat().st_size
    if size > EXEMPLAR_BYTES:
        raise TooLargeError(f"Exemplars have at most {EXEMPLAR_BYTES} bytes, these {size}. Leave some out.")
    try:
        load_exemplars(path)
    except FileFormatError as error:
        raise FileFormatError(str(error).replace(str(path), "the upload")) from error


def _is_object(path: FilePath) -> bool:
    try:
        return path.stat().st_size <= CONFIG_BYTES and isinstance(json.loads(path.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False


def _redirect(services: Services, digest: str) -> Response:
    services.store.artifacts.stat(digest)
    reason = services.quarantine.reason(digest)
    if reason:
        raise FileFormatError(f"The artifact {digest[:12]} is in quarantine: {reason}")
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
