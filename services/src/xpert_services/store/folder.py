"""A local folder as a store: the embedded default, safe for several processes on one machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xpert.core.errors import ConflictError, NotFoundError, StorageError
from xpert.core.files import sha256_hex
from xpert_services.store.objects import CHUNK, Content, ObjectInfo, Source, check_key, check_prefix, check_span

LOCKS = ".locks"
# Held (shared) while a name is put in place, and (alone) while names are listed.
LISTING = "listing"
PARTIAL = ".partial"


class FolderObjects:
    """Objects as files of a folder.

    A writer holds the lock of its key (one of 256 lock files), writes to one temporary name beside the target, syncs and
    renames. The temporary name belongs to the key, so that what a killed writer left is overwritten by the next one.

    Parameters
    ----------
    root
        The folder; made with the first object.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def __repr__(self) -> str:
        return f"FolderObjects('{self.root}')"

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """See `ObjectStore.put`."""
        path = self._path(key)
        with self._writing(key):
            found = sha256_hex(path.read_bytes()) if path.is_file() else None
            if if_absent and found:
                raise ConflictError(f"'{key}' is there already. Read it and decide again.")
            if if_match is not None and found != if_match:
                raise ConflictError(f"'{key}' was changed by another writer. Read it and decide again.")
            self._write(path, [data])
        return sha256_hex(data)

    def put_file(self, key: str, source: Source) -> None:
        """See `ObjectStore.put_file`; a local copy starts again after an interruption."""
        path = self._path(key)
        with self._writing(key):
            if not (path.is_file() and path.stat().st_size == source.size):
                self._write(path, (source.part(number) for number in range(len(source.parts))))

    def get(self, key: str) -> Content:
        """See `ObjectStore.get`."""
        with self._reading(key) as path:
            data = path.read_bytes()
        return Content(data, sha256_hex(data))

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `ObjectStore.read`."""
        check_span(key, start, end)
        with self._reading(key) as path, path.open("rb") as stream:
            stream.seek(start)
            left = None if end is None else end - start
            while data := stream.read(CHUNK if left is None else min(CHUNK, left)):
                left = None if left is None else left - len(data)
                yield data

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`."""
        with self._reading(key) as path:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise IsADirectoryError
        return ObjectInfo(key, found.st_size, found.st_mtime)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        for key in self._keys(prefix):
            try:
                yield self.stat(key)
            except NotFoundError:
                continue  # removed since the folder was read

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        self._remove(key, self._path(key), _partial(self._path(key)))

    def unfinished(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.unfinished`."""
        yield from self._keys(prefix, unfinished=True)

    def discard(self, key: str) -> None:
        """See `ObjectStore.discard`."""
        self._remove(key, _partial(self._path(key)))

    def now(self) -> float:
        """See `ObjectStore.now`."""
        return time.time()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _keys(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """Return the keys below ``prefix`` in order: those of whole objects, or those of begun ones.

        Raises
        ------
        StorageError
            A folder cannot be read: an object that is only not seen would be taken for one that is not there.
        """
        top, found = self.root / check_prefix(prefix), list[str]()
        if not top.is_dir():
            return []
        try:
            with self._locked(LISTING, fcntl.LOCK_EX):
                for folder, folders, names in os.walk(top, onerror=_refuse):
                    folders[:] = [name for name in folders if not name.startswith(".")]
                    hidden = [name for name in names if name.startswith(".")]
                    begun = [name[1 : -len(PARTIAL)] for name in hidden if name.endswith(PARTIAL)]
                    whole = [name for name in names if not name.startswith(".")]
                    # As texts: paths of thousands of records would take most of the time of a list.
                    place = Path(folder).relative_to(self.root).as_posix()
                    found += [name if place == "." else f"{place}/{name}" for name in (begun if unfinished else whole)]
        except OSError as error:
            raise StorageError(
                f"Cannot list '{prefix}' in '{self.root}': {error.strerror}. Check the disk and its rights."
            ) from error
        return sorted(found)

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        try:
            yield self._path(key)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFoundError(f"There is no object '{key}' in '{self.root}'.") from error
        except OSError as error:
            raise StorageError(
                f"Cannot read '{key}' in '{self.root}': {error.strerror}. Check the disk and its rights."
            ) from error

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            _make_folder(self._path(key).parent)
            with self._locked(sha256_hex(key.encode())[:2], fcntl.LOCK_EX):
                yield
        except OSError as error:
            raise StorageError(
                f"Cannot write '{key}' in '{self.root}': {error.strerror}. Free space or check its rights."
            ) from error

    def _remove(self, key: str, *paths: Path) -> None:
        if not paths[0].parent.is_dir():
            return
        with self._writing(key):
            for path in paths:
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    path.unlink()
            sync_folder(paths[0].parent)

    def _write(self, path: Path, chunks: Iterable[bytes]) -> None:
        partial = _partial(path)
        try:
            with partial.open("wb") as stream:
                for data in chunks:
                    stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # Some file systems do not show a name to who lists the folder just when it is replaced.
            with self._locked(LISTING, fcntl.LOCK_SH):
                partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        lock = self.root / LOCKS / name
        lock.parent.mkdir(parents=True, exist_ok=True)
        # Not for writing, so that a folder that may only be read can be listed.
        handle = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # Released by closing, also where the process is killed.
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)


def _refuse(error: OSError) -> None:
    """Raise what `os.walk` would pass over, but for a folder that is not there any more."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}{PARTIAL}")


def _make_folder(folder: Path) -> None:
    """Make a folder and those it lies in, each of them on the disk before the next."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` last: a rename is only on the disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
