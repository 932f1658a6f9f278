"""Sending a file to a signed address: going on where the last attempt was cut, where the address takes that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xpert.client.exchange import Answer, AttemptError, Exchange, Progress, Request
from xpert.core.errors import UnavailableError
from xpert.wire import ArtifactUpload

PARTIAL = "application/partial-upload"


class Send(Exchange[None]):
    """Send a file, or what is missing of it there.

    Parameters
    ----------
    where
        What the server said to the wish to send it.
    path
        The file.
    progress
        Told of the bytes.
    """

    def __init__(self, where: ArtifactUpload, path: Path, *, progress: Progress | None) -> None:
        self._where, self._path, self._progress = where, path, progress
        self.offset = self.began = where.offset or 0
        self._tried = False

    @property
    def gained(self) -> bool:
        """Whether an attempt that failed brought something all the same."""
        return self.offset > self.began

    def ahead(self) -> Iterable[Exchange[Any]]:
        """Ask how much is there before another attempt."""
        return [_Look(self)] if self._tried and self._where.offset is not None else []

    def request(self) -> Request:
        """Send all of it, or the rest."""
        self._tried = True
        headers = dict(self._where.headers)
        if self.offset:
            headers |= {"content-type": PARTIAL, "upload-offset": str(self.offset), "upload-complete": "?1"}
        return Request(
            method="PATCH" if self.offset else "PUT",
            target=self._where.url or "",
            headers=headers,
            file=self._path,
            start=self.offset,
            progress=self._progress,
        )

    def refused(self, answer: Answer) -> bool:
        """Take that a store has it already, and look again where the server has another number of bytes than it said."""
        if answer.status == 409 and self._where.offset is not None:
            told = UnavailableError("The server has another part of the file than it said. Try again.")
            raise AttemptError(told, wait=True)
        # The condition that an address of a bucket is signed with: an earlier attempt came through, its answer did not.
        return answer.foreign and answer.status == 412

    def result(self) -> None:
        """Return nothing."""

    @property
    def target(self) -> str:
        """The address."""
        return self._where.url or ""


class _Look(Exchange[None]):
    """Ask how many bytes of a file are there."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def request(self) -> Request:
        """Ask for the offset."""
        return Request(method="HEAD", target=self._send.target)

    def accept(self, head: Answer) -> None:
        """Go on from there."""
        offset = head.headers.get("upload-offset", "")
        self._send.offset = int(offset) if offset.isdecimal() else 0

    def result(self) -> None:
        """Return nothing."""
