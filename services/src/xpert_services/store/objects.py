"""What a store needs from the place that holds its bytes, and the file that is put there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xpert.core.errors import InputError, NotFoundError, StorageError

# S3 takes parts from 5 MiB; a part is also what an interrupted upload may have to send again.
PART_SIZE = 8 * 2**20
CHUNK = 2**20
KEY = re.compile(r"(?!.*//)[a-z0-9%_-][a-z0-9%._-]*(/[a-z0-9%_-][a-z0-9%._-]*)*")


@dataclass(frozen=True)
class ObjectInfo:
    """One object as a listing shows it.

    Attributes
    ----------
    key
        Its name below the store's root.
    size
        Bytes.
    modified
        Seconds since 1970 by the clock of the place that holds it (see `ObjectStore.now`).
    """

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Content:
    """The bytes of a small object and the etag by which a later write can be made conditional."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Source:
    """A file to be stored, with the digests that both ends check it by.

    Attributes
    ----------
    path
        The file.
    digest
        SHA-256 of the whole, 64 hexadecimal digits.
    size
        Bytes.
    parts
        SHA-256 of each `PART_SIZE` bytes (the last part may be shorter; an empty file has one empty part).
    """

    path: Path
    digest: str
    size: int
    parts: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Source:
        """Take the digests of the file at ``path``.

        Raises
        ------
        NotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        whole, size = hashlib.sha256(), 0
        parts: list[str] = []
        try:
            with Path(path).open("rb") as stream:
                while (data := stream.read(PART_SIZE)) or not parts:
                    whole.update(data)
                    size += len(data)
                    parts.append(hashlib.sha256(data).hexdigest())
        except FileNotFoundError as error:
            raise NotFoundError(f"There is no file '{path}'. Check the path.") from error
        except OSError as error:
            raise StorageError(f"Cannot read '{path}': {error.strerror}. Check that it is a readable file.") from error
        return cls(Path(path), whole.hexdigest(), size, tuple(parts))

    def part(self, number: int) -> bytes:
        """Return part ``number`` (from 0) of the file.

        Raises
        ------
        StorageError
            The file is no longer the one whose digests were taken.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(number * PART_SIZE)
                data = stream.read(PART_SIZE)
        except OSError as error:
            raise StorageError(f"Cannot read '{self.path}': {error.strerror}. Store it again.") from error
        if hashlib.sha256(data).hexdigest() != self.parts[number]:
            raise StorageError(f"'{self.path}' changed while it was being stored. Store it again when nothing writes to it.")
        return data


class ObjectStore(Protocol):
    """A place for bytes under keys: a local folder or an S3 bucket.

    An object appears whole or not at all, and whoever reads after a write returned sees that write. Every method raises
    `StorageError` where the place cannot be reached or refuses, and `InputError` for a key that is not of the form `KEY`.
    """

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write a small object and return its etag.

        Parameters
        ----------
        key
            Where.
        data
            Its bytes.
        if_absent
            Write only where there is no such object.
        if_match
            Write only where the object still has this etag.

        Raises
        ------
        ConflictError
            The condition does not hold; nothing was written.
        """
        ...

    def put_file(self, key: str, source: Source) -> None:
        """Write a file of any size. After an interruption, the same call goes on where the place supports it.

        Raises
        ------
        ConflictError
            Another writer of the same key has completed it, or discarded what was sent.
        """
        ...

    def get(self, key: str) -> Content:
        """Read a small object whole.

        Raises
        ------
        NotFoundError
            There is no such object.
        """
        ...

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream the bytes from ``start`` up to, not including, ``end`` (by default: the object's end).

        Raises
        ------
        NotFoundError
            There is no such object.
        StorageError
            Among others: the stream was cut.
        """
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Describe an object.

        Raises
        ------
        NotFoundError
            There is no such object.
        """
        ...

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects below a folder (``prefix`` ends in "/", or is empty for all), in the order of their keys.

        What is there all the time is listed, also while it is written anew.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object and what interrupted uploads left of it; nothing happens where there is none."""
        ...

    def unfinished(self, prefix: str) -> Iterator[str]:
        """List the keys below a folder to which files are being uploaded, or were by someone who was interrupted."""
        ...

    def discard(self, key: str) -> None:
        """Remove what interrupted uploads left of an object, but not the object; one that still runs fails or begins again."""
        ...

    def now(self) -> float:
        """Return the time by the clock that stamps objects, in seconds since 1970."""
        ...


def check_key(key: str) -> str:
    """Return ``key``.

    Raises
    ------
    InputError
        A place could not hold it: see `KEY`; at most 700 bytes, 245 between slashes.
    """
    if not KEY.fullmatch(key) or len(key) > 700 or max(map(len, key.split("/"))) > 245:
        raise InputError(f"{key!r} is no key: expected lower-case words of a-z, 0-9 and '%_.-' (no dot first), joined by '/'.")
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix``.

    Raises
    ------
    InputError
        It is neither empty nor a key with "/" behind it.
    """
    if prefix and not (prefix.endswith("/") and check_key(prefix[:-1])):
        raise InputError(f"{prefix!r} is no folder of keys: expected a key with '/' behind it, or nothing.")
    return prefix


def check_span(key: str, start: int, end: int | None) -> None:
    """Check the bounds of a ranged read.

    Raises
    ------
    InputError
        They are negative or the wrong way round.
    """
    if start < 0 or (end is not None and end < start):
        raise InputError(f"Cannot read '{key}' from {start} to {end}: expected 0 <= start <= end.")
