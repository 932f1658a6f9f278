"""Copying a store to another place while others write to it: to back it up, to restore it, to move it into a bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xpert.core.errors import ConflictError, FileFormatError, NotFoundError
from xpert_services.store.artifacts import KINDS, Artifacts
from xpert_services.store.attempts import attempts
from xpert_services.store.keys import RECORDS
from xpert_services.store.objects import ObjectStore
from xpert_services.store.records import Records

# A job's record is read before that of its pLLM (the keys' order), so that no job is copied as done whose result is missing; a
# base's after those of its pLLMs, so that each of them has its base.
LAST = f"{RECORDS}bases/"
MOST_SHOWN = 8


@dataclass(frozen=True)
class Copied:
    """What a copy brought.

    Attributes
    ----------
    n_records
        Records that were read, removed ones included.
    n_changed
        Those that the copy did not have like that.
    n_artifacts, n_bytes
        Artifacts that it did not have.
    """

    n_records: int
    n_changed: int
    n_artifacts: int
    n_bytes: int


class Copier:
    """Brings every record, and every artifact that one refers to, to another store.

    An artifact goes before the record that refers to it, and its digest is compared: what is in the copy is whole. Others may
    write to, and collect garbage in, ``source`` meanwhile; nothing else may write to ``target``. Asked again, it brings what
    has changed.

    Parameters
    ----------
    source, target
        Places with this layout.
    """

    def __init__(self, source: ObjectStore, target: ObjectStore) -> None:
        self._source, self._target = source, target
        self._from, self._to = Artifacts(source), Artifacts(target)
        self._records = Records(source, self._from)
        self._kept: set[str] = set()
        self._n_bytes = self._n_artifacts = 0

    def run(self) -> Copied:
        """Copy.

        Raises
        ------
        FileFormatError
            Records or artifacts are damaged or missing in the source; all others were copied, and of these the copy keeps what
            it had.
        """
        n_records = n_changed = 0
        problems = []
        for key in self._keys():
            n_records += 1
            try:
                n_changed += self._bring(key)
            except (FileFormatError, NotFoundError) as error:
                problems.append(f"'{key}': {error}")
        if problems:
            shown = " ".join(problems[:MOST_SHOWN])
            more = f" And {len(problems) - MOST_SHOWN} more." if len(problems) > MOST_SHOWN else ""
            raise FileFormatError(
                f"{len(problems)} of {n_records} records were not copied, the others were: {shown}{more} "
                "Repair them in the source, then copy again."
            )
        return Copied(n_records, n_changed, self._n_artifacts, self._n_bytes)

    def _keys(self) -> Iterator[str]:
        late = []
        for info in self._source.scan(RECORDS):
            if info.key.startswith(LAST):
                late.append(info.key)
            else:
                yield info.key
        yield from late

    def _bring(self, key: str) -> bool:
        """Copy a record after its artifacts; returns whether the copy did not have it like that."""
        for attempt in attempts():
            with attempt:
                data = self._source.get(key).data
                try:
                    for digest in sorted(self._records.references_in(key, data)):
                        self._keep(digest)
                except NotFoundError as error:
                    if self._source.get(key).data == data:
                        raise
                    # A writer has changed the record meanwhile, and what it referred to was collected.
                    raise ConflictError(f"'{key}' was changed while it was copied: {error}") from error
                return self._write(key, data)
        raise AssertionError("the last attempt raises")

    def _keep(self, digest: str) -> None:
        if digest in self._kept:
            return
        try:
            self._to.protect([digest])
        except NotFoundError:
            with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
                path = self._from.download(digest, Path(folder) / "artifact")
                known = self._from.stat(digest)
                self._to.put(path, kind=next(kind for kind in KINDS if kind == known.kind))
                self._n_artifacts += 1
                self._n_bytes += known.size
        self._kept.add(digest)

    def _write(self, key: str, data: bytes) -> bool:
        """Write the record's very bytes: a removed one stays removed, and revisions go on where they were."""
        try:
            if self._target.get(key).data == data:
                return False
        except NotFoundError:
            pass
        self._target.put(key, data)
        return True
