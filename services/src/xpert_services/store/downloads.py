"""Bringing an artifact to a local file: resumed by range, verified, put in its place in one step."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xpert.core.errors import FileFormatError, StorageError
from xpert_services.store.folder import sync_folder
from xpert_services.store.objects import CHUNK, ObjectStore


def download(objects: ObjectStore, key: str, path: Path, *, digest: str, size: int) -> Path:
    """Bring the object ``key`` to ``path``.

    Until it is whole it is called ``.NAME.DIGEST.partial``; a later call with the same arguments goes on from its end.

    Raises
    ------
    FileFormatError
        The object has another digest or size than it should.
    StorageError
        The transfer was cut, or ``path`` cannot be written.
    """
    partial = path.with_name(f".{path.name}.{digest[:16]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _holds(path, digest=digest, size=size):
            return path
        with _owned(partial) as stream:
            if _holds(path, digest=digest, size=size):
                partial.unlink()  # another caller brought it while this one waited
                return path
            _fill_checked(objects, key, stream, digest=digest, size=size)
            partial.replace(path)
        sync_folder(path.parent)
    except FileFormatError:
        partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise StorageError(f"Cannot write '{path}': {error.strerror}. Free space or choose another place.") from error
    return path


def _fill_checked(objects: ObjectStore, key: str, stream: BinaryIO, *, digest: str, size: int) -> None:
    if _fill(objects, key, stream, digest=digest, size=size):
        return
    # What an earlier call left may be what is wrong: once more from the start.
    stream.truncate(0)
    if not _fill(objects, key, stream, digest=digest, size=size):
        raise FileFormatError(
            f"The artifact {digest} is damaged in the store: '{key}' has not that digest or not its {size} bytes. Call "
            "check(digest, remove_damaged=True) and store its file again."
        )


def _fill(objects: ObjectStore, key: str, stream: BinaryIO, *, digest: str, size: int) -> bool:
    """Bring what ``stream`` lacks; returns whether it then holds the artifact."""
    found = hashlib.sha256()
    stream.seek(0)
    while data := stream.read(CHUNK):
        found.update(data)
    have = stream.tell()
    if have < size:
        try:
            for data in objects.read(key, start=have, end=size):
                stream.write(data)
                found.update(data)
        finally:
            # Kept also where the transfer is cut: the next call goes on from here.
            stream.flush()
    os.fsync(stream.fileno())
    return stream.tell() == size and found.hexdigest() == digest


@contextmanager
def _owned(partial: Path) -> Iterator[BinaryIO]:
    """Open ``partial`` for this caller alone; another one that brings the same file waits."""
    while True:
        with partial.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # The one waited for may have renamed or removed the file that this name stood for.
            if partial.exists() and os.path.samestat(partial.stat(), os.fstat(stream.fileno())):
                yield stream
                return


def _holds(path: Path, *, digest: str, size: int) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest
