"""Records: JSON documents that refer to artifacts, changed by compare-and-swap so that no update is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xpert.core.errors import ConflictError, FileFormatError, InputError, NotFoundError
from xpert_services.store.artifacts import Artifacts
from xpert_services.store.attempts import attempts
from xpert_services.store.cards import dump, load, new_name
from xpert_services.store.keys import DIGEST, check_digest, collection_prefix, decode, record_key
from xpert_services.store.objects import Content, ObjectStore

FORMAT = "xpert-record"
FORMAT_VERSION = 1
# How many earlier writes a record remembers: enough for a writer whose answer got lost to find its own among others'.
N_WRITES = 16
# The etag of a write that another one has followed already.
LOST = "superseded"


@dataclass(frozen=True)
class Draft:
    """What a record shall say.

    Attributes
    ----------
    value
        Any JSON document.
    artifacts
        Artifacts that it refers to: role (such as a file's name) -> digest. They are kept as long as the record says so.
    """

    value: Mapping[str, Any]
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What a record says.

    Attributes
    ----------
    collection, name
        Where it is.
    value
        Its JSON document.
    artifacts
        Role -> digest of the artifacts that it refers to.
    revision
        1 for the first write, one more for each later one, the removal included.
    etag
        What a later write is conditional on.
    """

    collection: str
    name: str
    value: Mapping[str, Any]
    artifacts: Mapping[str, str]
    revision: int
    etag: str


@dataclass(frozen=True)
class _Stored:
    draft: Draft | None
    revision: int
    writes: tuple[str, ...]
    etag: str | None

    @property
    def referred(self) -> frozenset[str]:
        return frozenset(self.draft.artifacts.values()) if self.draft else frozenset()

    def record(self, collection: str, name: str) -> Record | None:
        if self.draft is None or self.etag is None:
            return None
        return Record(collection, name, self.draft.value, self.draft.artifacts, self.revision, self.etag)


NOTHING = _Stored(None, 0, (), None)


class Records:
    """The records of a store.

    A removed record leaves a small object without a value, since neither S3 nor a folder can delete under a condition.

    Parameters
    ----------
    objects
        Where they are.
    artifacts
        The artifacts of the same store.
    """

    def __init__(self, objects: ObjectStore, artifacts: Artifacts) -> None:
        self._objects = objects
        self._artifacts = artifacts

    def get(self, collection: str, name: str) -> Record:
        """Read a record.

        Raises
        ------
        NotFoundError
            There is no such record.
        FileFormatError
            It was cut or edited, or a newer program wrote it.
        """
        found = self._read(record_key(collection, name)).record(collection, name)
        if found is None:
            raise NotFoundError(f"There is no record '{name}' in '{collection}'. Check the name.")
        return found

    def create(self, collection: str, name: str, draft: Draft) -> Record:
        """Write a new record.

        Raises
        ------
        ConflictError
            There is one already.
        NotFoundError
            An artifact that it refers to is not in the store.
        InputError
            The draft is not JSON.
        """
        stored = self._read(record_key(collection, name))
        if stored.draft is not None:
            raise ConflictError(f"There is a record '{name}' in '{collection}' already. Update it, or take another name.")
        return self._write(collection, name, stored, draft)

    def create_first(self, collection: str, name: str, draft: Draft) -> Record:
        """Write a record under a name that never was one's, not even one that is removed now; else as `create`."""
        return self._write(collection, name, NOTHING, draft)

    def replace(self, record: Record, draft: Draft) -> Record:
        """Write a record anew, if it still says what ``record`` says.

        Raises
        ------
        ConflictError
            Another writer changed it: read it and decide again.
        """
        return self._write(record.collection, record.name, self._unchanged(record), draft)

    def update(self, collection: str, name: str, function: Callable[[Record | None], Draft]) -> Record:
        """Change a record by a function, again and again until no other writer was in between.

        Parameters
        ----------
        collection, name
            Which.
        function
            Gets what the record says (None: there is none) and returns what it shall say. It may be called several times.

        Raises
        ------
        ConflictError
            Other writers were first hundreds of times.
        NotFoundError, InputError
            As for `create`.
        """
        for attempt in attempts():
            stored = self._read(record_key(collection, name))
            draft = function(stored.record(collection, name))
            with attempt:
                return self._write(collection, name, stored, draft)
        raise AssertionError("the last attempt raises")

    def remove(self, record: Record) -> None:
        """Remove a record, if it still says what ``record`` says.

        Raises
        ------
        ConflictError
            Another writer changed it.
        """
        self._put(record_key(record.collection, record.name), self._unchanged(record), None)

    def list(self, collection: str) -> Iterator[Record]:
        """List the records of a collection, in the order of their keys."""
        for info in self._objects.scan(collection_prefix(collection)):
            name = decode(info.key.rsplit("/", 1)[1].removesuffix(".json"))
            found = self._read(info.key).record(collection, name)
            if found:
                yield found

    def references(self, key: str) -> frozenset[str]:
        """Return the digests that the record at ``key`` refers to."""
        return self._read(key).referred

    def references_in(self, key: str, data: bytes) -> frozenset[str]:
        """Return the digests that a record refers to which says ``data`` at ``key``.

        Raises
        ------
        FileFormatError
            It was cut or edited, or a newer program wrote it.
        """
        return self._parse(key, Content(data, LOST)).referred

    def _unchanged(self, record: Record) -> _Stored:
        stored = self._read(record_key(record.collection, record.name))
        if stored.etag != record.etag:
            raise ConflictError(
                f"The record '{record.name}' in '{record.collection}' is at revision {stored.revision}, expected "
                f"{record.revision}: another writer changed it. Read it and decide again."
            )
        return stored

    def _read(self, key: str) -> _Stored:
        try:
            return self._parse(key, self._objects.get(key))
        except NotFoundError:
            return NOTHING

    @staticmethod
    def _parse(key: str, content: Content) -> _Stored:
        value = load(key, content.data, kind=FORMAT, max_version=FORMAT_VERSION)
        try:
            revision, writes, document, artifacts = (value[name] for name in ("revision", "writes", "value", "artifacts"))
            usable = isinstance(revision, int) and isinstance(writes, list) and isinstance(artifacts, dict)
            usable = usable and all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in artifacts.values())
            if not usable or not (document is None or isinstance(document, dict)):
                raise ValueError("a part is of another type than it should")
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"'{key}' is no usable record: {error}. Restore it from a backup.") from error
        return _Stored(None if document is None else Draft(document, artifacts), revision, tuple(map(str, writes)), content.etag)

    def _write(self, collection: str, name: str, stored: _Stored, draft: Draft) -> Record:
        """Protect, write, confirm: the writer's half of the protocol with the garbage collector."""
        key = record_key(collection, name)
        written, new = self._put(key, stored, draft)
        try:
            self._artifacts.confirm(new)
        except NotFoundError:
            # Collected, since this writer was slower than the retention: nobody shall find the reference.
            with contextlib.suppress(ConflictError, NotFoundError):
                self._artifacts.confirm(self._put(key, written, stored.draft)[1])
            raise
        found = written.record(collection, name)
        if found is None:
            raise AssertionError("a draft was written")
        return found

    def _put(self, key: str, stored: _Stored, draft: Draft | None) -> tuple[_Stored, Sequence[str]]:
        """Write in the place of ``stored``; returns what is there now and the digests to confirm."""
        write = new_name()
        # What the record refers to already is kept by it until this write succeeds.
        new = sorted({check_digest(digest) for digest in (draft.artifacts.values() if draft else ())} - stored.referred)
        data = _encode(draft, stored, write)
        self._artifacts.protect(new)
        try:
            etag = self._objects.put(key, data, if_absent=stored.etag is None, if_match=stored.etag)
        except ConflictError:
            # A repeated request, whose first answer was lost, is refused because of its own success.
            now = self._read(key)
            if write not in now.writes or now.etag is None:
                raise
            # Were it another's that came after this one, the next conditional write finds out.
            etag = now.etag if now.writes[-1] == write else LOST
        return self._parse(key, Content(data, etag)), new


def _encode(draft: Draft | None, stored: _Stored, write: str) -> bytes:
    value = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "revision": stored.revision + 1,
        "writes": [*stored.writes, write][-N_WRITES:],
        "value": None if draft is None else dict(draft.value),
        "artifacts": dict(draft.artifacts) if draft else {},
    }
    try:
        return dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"A record must be a JSON document: {error}. Use texts, numbers, lists and mappings.") from error
