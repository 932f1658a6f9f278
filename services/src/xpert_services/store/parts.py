"""What interrupted uploads left: spans of a file's bytes, under its digest and the name of who sends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xpert_services.store.keys import parts_prefix
from xpert_services.store.objects import ObjectStore, Source

LEAST_BYTES = 64 * 2**10
"""What is shorter is not worth an object: it is sent again."""

MOST_PARTS = 256


@dataclass(frozen=True, order=True)
class _Span:
    start: int
    end: int
    key: str


class Parts:
    """The parts of a store. Nobody knows whether they are what they should be before the whole is there.

    Parameters
    ----------
    objects
        Where they are.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def offset(self, digest: str, owner: str) -> int:
        """Return how many bytes from the beginning are there without a gap."""
        return max((span.end for span in self._chain(digest, owner)), default=0)

    def keep(self, digest: str, owner: str, path: Path, *, start: int) -> None:
        """Keep the bytes in ``path``, which begin at ``start`` of the file; too few, or one part too many, are let go."""
        size = path.stat().st_size
        if size < LEAST_BYTES or len(self._spans(digest, owner)) >= MOST_PARTS:
            return
        self._objects.put_file(f"{parts_prefix(digest, owner)}{start}-{start + size}", Source.read(path))

    def write(self, digest: str, owner: str, stream: BinaryIO, *, end: int) -> None:
        """Write the first ``end`` bytes, as far as they are there."""
        done = 0
        for span in self._chain(digest, owner):
            upto = min(span.end, end)
            if upto > done:
                for data in self._objects.read(span.key, start=done - span.start, end=upto - span.start):
                    stream.write(data)
                done = upto

    def drop(self, digest: str, owner: str) -> None:
        """Remove the parts of a file."""
        for span in self._spans(digest, owner):
            self._objects.delete(span.key)

    def _chain(self, digest: str, owner: str) -> Iterator[_Span]:
        """Yield spans of which each begins where the one before ends, or earlier: two attempts may have brought the same."""
        spans, done = self._spans(digest, owner), 0
        while True:
            best = max((span for span in spans if span.start <= done), key=lambda span: span.end, default=None)
            if best is None or best.end <= done:
                return
            yield best
            done = best.end

    def _spans(self, digest: str, owner: str) -> list[_Span]:
        found = []
        for info in self._objects.scan(parts_prefix(digest, owner)):
            start, _, end = info.key.rpartition("/")[2].partition("-")
            found.append(_Span(int(start), int(end), info.key))
        return sorted(found)
