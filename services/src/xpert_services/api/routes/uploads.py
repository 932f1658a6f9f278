"""Bytes in: uploads to signed addresses of this server, or of the bucket itself, checked before anything refers to them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from xpert.core.errors import ConflictError, NotFoundError, StorageError, TooLargeError, UnavailableError
from xpert.wire import ArtifactUpload, UploadDraft
from xpert.wire.bodies import Digest, UploadKind
from xpert_services.access import Caller
from xpert_services.api.parts import PROBLEMS, Parts, needs
from xpert_services.api.problems import Refused
from xpert_services.services import Services

BINARY = "application/octet-stream"
PARTIAL = "application/partial-upload"
OFFSET, COMPLETE = "upload-offset", "upload-complete"

router = APIRouter(prefix="/v1", tags=["files"], responses=PROBLEMS)


class UploadAddress(BaseModel):
    """What an address for an upload allows."""

    model_config = ConfigDict(extra="forbid")

    kind: UploadKind
    size: int = Field(ge=1)
    token: str = Field(pattern=r"^[0-9a-z]{1,32}$")
    expires: int
    signature: Digest


Address = Annotated[UploadAddress, Query()]


def _body(kind: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("/uploads")
def ask_upload(
    request: Request, services: Parts, draft: UploadDraft, caller: Annotated[Caller, needs("publish")]
) -> ArtifactUpload:
    """Say where to PUT a file, and how much of it is there; nothing needs to be sent where the store has it."""
    if draft.size > services.settings.most_bytes:
        raise TooLargeError(f"Files of at most {services.settings.most_bytes} bytes are taken, this one has {draft.size}.")
    try:
        services.store.artifacts.protect([draft.digest])
        return ArtifactUpload(digest=draft.digest, present=True)
    except NotFoundError:
        pass
    if services.direct:
        return services.direct.ask(draft, caller.id)
    query = services.signer.sign(
        "upload", {"kind": draft.kind, "size": str(draft.size), "token": caller.id, "digest": draft.digest}
    )
    front = (request.app.state.public_url or str(request.base_url)).rstrip("/")
    query.pop("digest")
    return ArtifactUpload(
        digest=draft.digest,
        present=False,
        url=f"{front}/v1/uploads/{draft.digest}?{urlencode(query)}",
        headers={"content-type": BINARY},
        expires=datetime.fromtimestamp(int(query["expires"]), UTC),
        offset=services.store.parts.offset(draft.digest, caller.id),
    )


@router.put("/uploads/{digest}", status_code=204, response_class=Response, openapi_extra=_body(BINARY))
async def upload(request: Request, services: Parts, digest: Digest, address: Address) -> None:
    """Take the bytes of a file at an address that POST /v1/uploads gave; they must have the digest and size asked for."""
    await _check(request, services, digest, address)
    await _take(request, services, digest, address, start=0)


@router.patch("/uploads/{digest}", status_code=204, response_class=Response, openapi_extra=_body(PARTIAL))
async def resume_upload(
    request: Request, services: Parts, digest: Digest, address: Address, upload_offset: Annotated[int, Header(ge=0)]
) -> None:
    """Take the rest of a file whose upload was cut, from a byte on; 409 tells how many are there where it is not that one."""
    await _check(request, services, digest, address)
    there = await run_in_threadpool(_offset, services, digest, address)
    if there == address.size and upload_offset == there and await run_in_threadpool(_is_stored, services, digest):
        return  # all came before, and only the answer was lost
    if upload_offset > there:
        error = ConflictError(f"{there} bytes of this file are here, not {upload_offset}. Go on from there.")
        raise Refused(error, 409, {OFFSET: str(there)})
    await _take(request, services, digest, address, start=upload_offset)


@router.head("/uploads/{digest}", status_code=204, response_class=Response)
async def look_at_upload(request: Request, services: Parts, digest: Digest, address: Address) -> Response:
    """Say how many bytes of a file are here."""
    await _check(request, services, digest, address)
    there = await run_in_threadpool(_offset, services, digest, address)
    is_stored = there == address.size and await run_in_threadpool(_is_stored, services, digest)
    return Response(status_code=204, headers={OFFSET: str(there), COMPLETE: "?1" if is_stored else "?0"})


async def _check(request: Request, services: Services, digest: str, address: UploadAddress) -> None:
    query = {name: str(value) for name, value in address.model_dump().items()}
    await run_in_threadpool(services.signer.check, "upload", {"digest": digest, **query})
    # For the log of writes: who asked for the address answers for what is sent there.
    request.state.caller = Caller(address.token, "upload", "publish")


def _is_stored(services: Services, digest: str) -> bool:
    try:
        services.store.artifacts.stat(digest)
    except NotFoundError:
        return False
    return True


def _offset(services: Services, digest: str, address: UploadAddress) -> int:
    return address.size if _is_stored(services, digest) else services.store.parts.offset(digest, address.token)


async def _take(request: Request, services: Services, digest: str, address: UploadAddress, *, start: int) -> None:
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = FilePath(folder) / "came"
        try:
            await _receive(request, path, left=address.size - start)
        except (ClientDisconnect, asyncio.CancelledError) as cut:
            keep = asyncio.to_thread(services.store.parts.keep, digest, address.token, path, start=start)
            await asyncio.shield(keep)
            if isinstance(cut, asyncio.CancelledError):
                raise
            raise UnavailableError("The upload was cut. Ask how much is here, and go on from there.") from cut
        await run_in_threadpool(_finish, services, path, digest, address, start)


async def _receive(request: Request, path: FilePath, *, left: int) -> None:
    try:
        with path.open("wb") as stream:
            async for data in request.stream():
                left -= len(data)
                if left < 0:
                    raise TooLargeError("More bytes came than were announced. Ask for another address.")
                await run_in_threadpool(stream.write, data)
    except OSError as error:
        raise StorageError(f"Cannot keep the upload: {error.strerror}. Try again later.") from error


def _finish(services: Services, came: FilePath, digest: str, address: UploadAddress, start: int) -> None:
    """Put the parts before what came, and store the whole if it is what was announced."""
    whole = came
    if start:
        whole = came.with_name("upload")
        with whole.open("wb") as stream, came.open("rb") as rest:
            services.store.parts.write(digest, address.token, stream, end=start)
            shutil.copyfileobj(rest, stream)
    try:
        services.intake.take(whole, digest=digest, size=address.size, kind=address.kind)
    finally:
        # What was wrong with the whole would be wrong with it again.
        services.store.parts.drop(digest, address.token)
