"""The layout of a store: its version, what is refused, and the way from the one before."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from xpert.core.errors import ConflictError, FileFormatError, MismatchError, NotFoundError, StorageError
from xpert_services.store.artifacts import KINDS, Artifacts
from xpert_services.store.cards import dump, load
from xpert_services.store.keys import DIGEST, LAYOUT, VERSION, decode
from xpert_services.store.objects import ObjectStore
from xpert_services.store.records import Draft, Records

FORMAT = "xpert-store"
# Layout 0: artifacts/KIND/SHA256 and records/COLLECTION/NAME.json with {"value", "artifacts"}; no layout object.
OLD_ARTIFACTS = "artifacts/"
OLD_RECORDS = "records/"


def prepare(objects: ObjectStore) -> None:
    """Check the layout of a store, and mark an empty place as a store of this version.

    Raises
    ------
    MismatchError
        It has layout 0: migrate it.
    FileFormatError
        A newer program made it.
    """
    version = read_version(objects)
    if version == 0:
        raise MismatchError(
            f"The store {objects!r} has layout 0, expected {VERSION}. Stop what writes to it, then run "
            "python -m xpert_services.store migrate (or open it once with migrate=True)."
        )
    if version is None:
        _mark(objects)


def read_version(objects: ObjectStore) -> int | None:
    """Return the version of a store's layout; None for an empty place.

    Raises
    ------
    FileFormatError
        It is newer than this program, or not readable.
    """
    try:
        content = objects.get(LAYOUT)
    except NotFoundError:
        old = any(next(iter(objects.scan(prefix)), None) for prefix in (OLD_ARTIFACTS, OLD_RECORDS))
        return 0 if old else None
    return int(load(LAYOUT, content.data, kind=FORMAT, max_version=VERSION)["version"])


def migrate(objects: ObjectStore) -> None:
    """Bring a store of layout 0 to layout 1; nothing happens to one that has it.

    Everything is copied and verified before the version is written, and the old objects go last. After an interruption the
    same call goes on, also where the version was written already. Programs that write layout 0 must be stopped.

    Raises
    ------
    FileFormatError
        An old object is damaged; the store stays at layout 0.
    NotFoundError
        A record refers to an artifact that is not there; the store stays at layout 0.
    """
    if not read_version(objects):
        try:
            _copy(objects)
        except NotFoundError:
            if not read_version(objects):  # else another process has done the same and removed what this one was to copy
                raise
    for prefix in (OLD_ARTIFACTS, OLD_RECORDS):
        for info in list(objects.scan(prefix)):
            objects.delete(info.key)


def _copy(objects: ObjectStore) -> None:
    artifacts = Artifacts(objects)
    for info in list(objects.scan(OLD_ARTIFACTS)):
        _migrate_artifact(objects, artifacts, info.key)
    for info in list(objects.scan(OLD_RECORDS)):
        _migrate_record(objects, Records(objects, artifacts), info.key)
    _mark(objects)


def _mark(objects: ObjectStore) -> None:
    data = dump({"format": FORMAT, "version": VERSION})
    # Another process may do the same at the same time, with the same result.
    with contextlib.suppress(ConflictError):
        objects.put(LAYOUT, data, if_absent=True)
    # Some S3 servers take the conditions and pay no heed to them: found out here, where the wrong write changes nothing.
    if not (_refused(objects, data, if_absent=True) and _refused(objects, data, if_match="0" * 32)):
        objects.delete(LAYOUT)
        raise StorageError(
            f"{objects!r} ignores the conditions of writes (If-None-Match, If-Match): two writers would lose updates. Use a "
            "server that answers 412 to a second writer."
        )


def _refused(objects: ObjectStore, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
    try:
        objects.put(LAYOUT, data, if_absent=if_absent, if_match=if_match)
    except ConflictError:
        return True
    return False


def _migrate_artifact(objects: ObjectStore, artifacts: Artifacts, key: str) -> None:
    word, _, digest = key.removeprefix(OLD_ARTIFACTS).partition("/")
    kind = next((known for known in KINDS if known == word), None)
    if kind is None or not DIGEST.fullmatch(digest):
        raise FileFormatError(f"'{key}' is no artifact of layout 0: expected '{OLD_ARTIFACTS}KIND/SHA256'. Move it away.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / digest
        with copy.open("wb") as stream:
            stream.writelines(objects.read(key))
        found = artifacts.put(copy, kind=kind).digest
    if found != digest:
        raise FileFormatError(f"'{key}' is damaged: its content has the digest {found}. Restore it or move it away.")


def _migrate_record(objects: ObjectStore, records: Records, key: str) -> None:
    collection, _, name = key.removeprefix(OLD_RECORDS).removesuffix(".json").partition("/")
    try:
        value = json.loads(objects.get(key).data)
        draft = Draft(dict(value["value"]), {str(role): str(digest) for role, digest in value["artifacts"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"'{key}' is no record of layout 0: {error}. Restore it or move it away.") from error
    # There already, be it removed again: an earlier call was interrupted, or another process has done the same.
    with contextlib.suppress(ConflictError):
        records.create_first(decode(collection), decode(name), draft)
