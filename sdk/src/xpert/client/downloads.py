"""Fetching files by digest: going on where the last attempt stopped, checked, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from xpert.client.cache import Cache, item_key
from xpert.client.exchange import Answer, AttemptError, Exchange, Operation, Pause, Progress, Request, work
from xpert.core.errors import FileFormatError, StorageError, UnavailableError, XpertError

POLL = 0.1
"""Seconds between two looks at whether another one has finished fetching the same."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Fetch(Exchange[int]):
    """Append to a file what is missing of it; every attempt asks from where the last one stopped.

    Parameters
    ----------
    target
        The path to ask for.
    path
        The file that grows.
    progress
        Told of the bytes of this file, those from earlier included.
    """

    def __init__(self, target: str, path: Path, *, progress: Progress | None) -> None:
        self.target, self.path, self.progress = target, path, progress
        self.came = 0
        self.done = self.total = 0
        self._stream: BinaryIO | None = None

    def request(self) -> Request:
        """Ask for the rest."""
        self.done = self.path.stat().st_size if self.path.exists() else 0
        self.total = 0
        # A compressed body could not be gone on with.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
        return Request(method="GET", target=self.target, headers=headers)

    def accept(self, head: Answer) -> None:
        """Go on, or begin again where the store sends everything."""
        found = _RANGE.fullmatch(head.headers.get("content-range", ""))
        if head.status == 206 and not (found and int(found[1]) == self.done):
            self.path.unlink(missing_ok=True)
            raise AttemptError(UnavailableError(f"{_place(head)} sent another range than asked for. Try again later."), wait=True)
        if head.status != 206:
            self.done = 0
        length = head.headers.get("content-length", "")
        self.total = self.done + int(length) if length.isdecimal() else 0
        try:
            self._stream = self.path.open("ab" if self.done else "wb")
        except OSError as error:
            raise self._storage(error) from error

    def refused(self, answer: Answer) -> bool:
        """Take 416 for what it is: all of it is here already, or more than there is."""
        if answer.status != 416:
            return False
        if answer.headers.get("content-range", "").replace(" ", "") == f"bytes*/{self.done}":
            return True
        self.path.unlink(missing_ok=True)
        raise AttemptError(UnavailableError(f"{_place(answer)} has fewer bytes than were fetched before. Try again."), wait=True)

    def feed(self, chunk: bytes) -> None:
        """Write the bytes."""
        assert self._stream is not None  # noqa: S101
        try:
            self._stream.write(chunk)
        except OSError as error:
            raise self._storage(error) from error
        self.came += len(chunk)
        self.done += len(chunk)
        if self.progress:
            self.progress(self.done, max(self.total, self.done))

    def close(self) -> None:
        """Close the file."""
        stream, self._stream = self._stream, None
        if stream:
            try:
                stream.close()
            except OSError as error:
                raise self._storage(error) from error

    def result(self) -> int:
        """Return the file's size.

        Raises
        ------
        AttemptError
            The connection ended early.
        """
        if self.total and self.done < self.total:
            raise AttemptError(
                UnavailableError(f"The download ended at {self.done} of {self.total} bytes. Try again."), wait=True
            )
        return self.done

    def _storage(self, error: OSError) -> StorageError:
        self.path.unlink(missing_ok=True)
        return StorageError(f"Cannot write '{self.path}': {error.strerror}. It was removed. Free space or set XPERT_CACHE.")


def fetch_item(cache: Cache, files: Mapping[str, str], *, progress: Progress | None, size: int = 0) -> Operation[Path]:
    """Return the cache's folder with ``files``, fetching them where they are not there.

    Parameters
    ----------
    cache
        Where it is kept.
    files
        Name -> digest.
    progress
        Told of the bytes of all files together.
    size
        What is known of their size before the first answer.

    Raises
    ------
    FileFormatError
        What came has another digest.
    UnavailableError
        It did not come; what did is gone on with next time.
    """
    key = item_key(files)
    found = yield from work(partial(cache.find, files))
    if found:
        return found
    lock = yield from _locked(cache, key)
    try:
        found = yield from work(partial(cache.find, files))
        if found:
            return found
        before = 0
        for name, digest in sorted(files.items()):
            before += yield from _file(cache, key, name, digest, _Sum(progress, before, size))
        return (yield from work(partial(cache.finish, key)))
    finally:
        lock.release()


def _locked(cache: Cache, key: str) -> Operation[FileLock]:
    lock = cache.lock(key)
    while True:
        try:
            lock.acquire()
        except Timeout:
            yield Pause(POLL)
        else:
            return lock


class _Sum:
    """Progress of one file, told as progress of all."""

    def __init__(self, progress: Progress | None, before: int, size: int) -> None:
        self.progress, self.before, self.size = progress, before, size

    def __call__(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(self.before + done, max(self.size, self.before + total))


def _file(cache: Cache, key: str, name: str, digest: str, progress: Progress) -> Operation[int]:
    part = cache.part(key, name)
    whole = part.with_name(name)
    if whole.exists():  # from an earlier try that did not come to the end of all files
        return whole.stat().st_size
    for last in (False, True):
        size = yield from _bytes(f"/v1/artifacts/{digest}", part, progress)
        if (yield from work(partial(cache.complete, key, name, digest))):
            return size
        if last:
            break
    raise FileFormatError(
        f"'{name}' came twice with another content than its digest {digest[:12]} says. Nothing of it was kept. "
        "Tell the server's owner: its store is damaged, or someone changes what passes."
    )


def _bytes(target: str, part: Path, progress: Progress) -> Operation[int]:
    while True:
        fetch = Fetch(target, part, progress=progress)
        try:
            size: int = yield fetch
        except XpertError as error:
            # Attempts count anew as long as bytes come: a long download over a bad network ends all the same.
            if not (fetch.came and isinstance(error, UnavailableError)):
                raise
        else:
            return size


def _place(answer: Answer) -> str:
    return answer.url.split("?")[0]
