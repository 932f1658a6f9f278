"""What a client has fetched, on disk: whole and checked, up to a size, and there when the server is not.

items/KEY/FILE…          files of an adapter (or a style space), KEY the digest of their names and digests
parts/KEY/FILE[.part]    the same on its way here: renamed to items/KEY when all of it is there and checked
servers/SERVER/BASE/     what a server said: pLLMs by name, the catalogue and its version
locks/KEY.lock           one fetches, the others wait
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from xpert.core.errors import FileFormatError, InputError, StorageError, UnsafeFileError
from xpert.core.files import cache_folder, sha256_hex, staged_folder

GIB = 1 << 30
TRASH = ".trash."
ALLOWED = (".safetensors", ".json", ".md", ".txt")
DIGEST = re.compile(r"^[0-9a-f]{64}$")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


def item_key(files: Mapping[str, str]) -> str:
    """Return the key of a set of files, name -> digest.

    Raises
    ------
    UnsafeFileError
        A name leads elsewhere, or is of a kind that could run code.
    FileFormatError
        A digest is none.
    """
    wrong = [name for name in files if not NAME.match(name) or not name.endswith(ALLOWED)]
    if wrong:
        raise UnsafeFileError(
            f"The server offers {', '.join(map(repr, wrong))} as part of an adapter. Only plain names ending in "
            f"{', '.join(ALLOWED)} are fetched: others could run code or lead elsewhere. Nothing was fetched."
        )
    bad = [name for name, digest in files.items() if not DIGEST.match(digest)]
    if bad or not files:
        raise FileFormatError(f"The server gives no usable digest for {', '.join(bad) or 'any file'}. Tell its owner.")
    return sha256_hex("\n".join(f"{name} {files[name]}" for name in sorted(files)).encode())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in chunks.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"Cannot read '{path}': {error.strerror}. Check that it is a readable file.") from error


class Cache:
    """The client's folder of fetched things.

    Several clients, threads and processes may use one folder at the same time.

    Parameters
    ----------
    folder
        Where; by default ``client`` in the SDK's cache folder.
    limit
        Bytes. What was used longest ago goes first; what was fetched last stays even if it alone is larger.

    Raises
    ------
    InputError
        The limit is below zero.
    """

    def __init__(self, folder: Path | None = None, *, limit: int = 4 * GIB) -> None:
        if limit < 0:
            raise InputError(f"The cache's limit is {limit} bytes, expected at least 0.")
        self.folder = Path(folder) if folder else cache_folder() / "client"
        self.limit = limit

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r}, limit={self.limit})"

    def find(self, files: Mapping[str, str]) -> Path | None:
        """Return the folder that holds ``files``, each checked against its digest; a damaged one is removed."""
        path = self.folder / "items" / item_key(files)
        try:
            if all(file_sha256(path / name) == digest for name, digest in files.items()):
                os.utime(path)
                return path
        except (StorageError, OSError):
            if not path.exists():
                return None
        self._drop(path)
        return None

    def lock(self, key: str) -> FileLock:
        """Return the lock of an item; taking it must not wait, or an event loop would."""
        path = self._made(self.folder / "locks") / f"{key}.lock"
        return FileLock(path, blocking=False, thread_local=False)

    def part(self, key: str, name: str) -> Path:
        """Return where one file of an item grows."""
        return self._made(self.folder / "parts" / key) / f"{name}.part"

    def complete(self, key: str, name: str, digest: str) -> bool:
        """Check a file that has arrived and keep it; False, and it is gone, where its content is not what was asked for."""
        path = self.part(key, name)
        if file_sha256(path) != digest:
            path.unlink()
            return False
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.replace(path.with_name(name))
        return True

    def finish(self, key: str) -> Path:
        """Put an item in its place, now that all its files are there, and make room."""
        made = self._made(self.folder / "items") / key
        try:
            (self.folder / "parts" / key).replace(made)
            os.utime(made)
        except OSError as error:
            raise StorageError(f"Cannot write '{made}': {error.strerror}. Free space or choose another cache.") from error
        self.evict(keep=key)
        return made

    def place(self, base: str, server: str) -> Path:
        """Return the folder of what a server said about a base."""
        return self._made(self.folder / "servers" / server / base)

    def copy(self, files: Mapping[str, str], folder: Path, out: Path) -> Path:
        """Copy an item out of the cache, whole or not at all.

        Raises
        ------
        StorageError
            The disk is full, or the item was removed meanwhile.
        """
        with staged_folder(out) as stage:
            for name in files:
                shutil.copyfile(folder / name, stage / name)
        return out

    @property
    def size(self) -> int:
        """Bytes in the cache."""
        return sum(_size(path) for _, path in self._units())

    def evict(self, *, keep: str = "") -> None:
        """Remove what was used longest ago until the rest fits the limit; what is being fetched and ``keep`` stay."""
        units = sorted(self._units())
        total = sum(_size(path) for _, path in units)
        for _, path in units:
            if total <= self.limit:
                return
            if path.name == keep:
                continue
            with suppress(Timeout, OSError), self.lock(path.name):
                size = _size(path)
                self._drop(path)
                total -= size

    def clear(self) -> None:
        """Remove everything that nobody is fetching right now."""
        limit, self.limit = self.limit, -1
        try:
            self.evict()
        finally:
            self.limit = limit
        shutil.rmtree(self.folder / "servers", ignore_errors=True)

    def _units(self) -> Iterator[tuple[float, Path]]:
        for kind in ("items", "parts"):
            with suppress(FileNotFoundError):
                for path in (self.folder / kind).iterdir():
                    with suppress(OSError):
                        yield path.stat().st_mtime, path
        with suppress(FileNotFoundError):
            for path in (self.folder / "servers").glob("*/*/*.xcat.safetensors"):
                with suppress(OSError):
                    yield path.stat().st_mtime, path

    def _drop(self, path: Path) -> None:
        """Remove at once for every reader: renamed first, then deleted."""
        with suppress(FileNotFoundError):
            if path.is_dir():
                trash = Path(tempfile.mkdtemp(dir=self.folder, prefix=TRASH))
                try:
                    path.rename(trash / path.name)
                finally:
                    shutil.rmtree(trash, ignore_errors=True)
            else:
                path.unlink()

    def _made(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Cannot write to the cache '{folder}': {error.strerror}. Set XPERT_CACHE to another folder."
            ) from error
        return folder


def _size(path: Path) -> int:
    try:
        return sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0
