"""Reading and writing files: whole or not at all, checked, never unpickled."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save as dump_tensors

from xpert.core.errors import FileFormatError, InputError, NotFoundError, StorageError, UnsafeFileError

Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""Configuration and weights of an adapter in PEFT's format."""

OURS = (ADAPTER_FILES[0], "config.json", "state.json")
"""Files that mark a folder as a model, an adapter or a checkpoint, which may be replaced by the next one."""

UMASK = os.umask(0o077)
os.umask(UMASK)
"""Rights that new files do not get. It can only be read by setting it, which threads would notice: once, here."""

ABANDONED = 3600
"""Seconds without a write after which an unfinished file belongs to a process that is gone."""

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # numpy lacks it: the upper half of a float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``XPERT_CACHE``, or ``xpert`` in the user's cache folder."""
    own = os.environ.get("XPERT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xpert"


def tools_folder() -> Path:
    """Return the folder for what takes minutes to build: ``XPERT_TOOLS``, or ``xpert-tools`` in the home's ``.cache``."""
    return Path(os.environ.get("XPERT_TOOLS") or Path.home() / ".cache" / "xpert-tools")


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 digest of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises
    ------
    NotFoundError
        There is no such file.
    StorageError
        It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file '{path}'. Check the path.") from error
    except OSError as error:
        raise StorageError(f"Cannot read '{path}': {error.strerror}. Check that it is a readable file.") from error


def write_atomic(path: Path, data: bytes | Iterable[bytes], *, mode: int | None = None) -> None:
    """Write ``data`` to ``path``: afterwards it holds all of it, or what it held before.

    Parameters
    ----------
    path
        The file.
    data
        Its content, or the blocks of it, each of which is made when the one before is written.
    mode
        The file's rights from its first moment on; None: what new files get here.

    Raises
    ------
    StorageError
        The disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _storage(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            for block in [data] if isinstance(data, bytes) else data:
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o666 & ~UMASK if mode is None else mode)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _storage(path, error) from error
        raise


def remove_abandoned(path: Path) -> None:
    """Remove what processes killed while `write_atomic` wrote ``path`` left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}"):  # as tempfile names them
        try:
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
        except OSError:  # another process was faster, or it stands where this one may not remove it
            continue


@contextmanager
def staged_folder(path: Path, *, marks: Iterable[str] = OURS) -> Iterator[Path]:
    """Build a folder beside ``path`` and put it in its place when the block ends without an error.

    Parameters
    ----------
    path
        The folder to make, or to replace.
    marks
        Files, one of which a folder must hold to be replaced.

    Yields
    ------
    Path
        The folder to fill; it is removed where the block fails, and ``path`` stays as it was.

    Raises
    ------
    StorageError
        The disk is full, or the place cannot be written to.
    """
    path = Path(path)
    refuse_foreign(path, marks=marks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _storage(path, error) from error
    try:
        yield stage
        stage.chmod(0o777 & ~UMASK)
        for part in (*stage.rglob("*"), stage):
            _sync(part)
        _swap(stage, path)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        if isinstance(error, OSError):
            raise _storage(path, error) from error
        if isinstance(error, SafetensorError) and "I/O error" in str(error):  # how that library says that the disk is full
            raise _storage(path, OSError(0, str(error))) from error
        raise


def _sync(path: Path) -> None:
    """Bring a file's or folder's content to the disk, so that a renamed folder is whole even after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_foreign(path: Path, *, marks: Iterable[str] = OURS) -> None:
    """Refuse to replace what this program did not make.

    Raises
    ------
    InputError
        ``path`` is a file, or a folder that holds something else than a model, an adapter or a checkpoint.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"'{path}' is a file, a folder is written there. Give another place with --out.")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in marks):
        raise InputError(
            f"The folder '{path}' holds files that are no model or adapter, and would be replaced. Give a new or empty folder."
        )


def _swap(stage: Path, path: Path) -> None:
    """Rename ``stage`` to ``path``; what stood there is moved aside first, and put back if that fails."""
    if not path.exists():
        stage.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old.")) / path.name
    try:
        path.rename(old)
        stage.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_json(path: Path, *, format: str, max_version: int) -> dict[str, Any]:  # noqa: A002
    """Read a JSON document of ours.

    Parameters
    ----------
    path
        The file.
    format
        What the document's key ``format`` must say.
    max_version
        Newest version that this code can read.

    Raises
    ------
    FileFormatError
        It is cut, not JSON, of another format or of a newer version.
    """
    try:
        value = json.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"'{path}' is not valid JSON: {error}. Was it cut or edited? Make it again.") from error
    return check_header(path, value, kind=format, max_version=max_version)


def check_header(path: Path, value: object, *, kind: str, max_version: int) -> dict[str, Any]:
    """Check ``format`` and ``version`` of a document of ours and return it.

    Raises
    ------
    FileFormatError
        The document is of another format or of a newer version.
    """
    found = value.get("format") if isinstance(value, dict) else None
    if not isinstance(value, dict) or found != kind:
        raise FileFormatError(f"'{path}' is not a file of format '{kind}': found {found!r}. Give the right file.")
    version = value.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FileFormatError(f"'{path}' has the version {version!r}; expected a whole number from 1. Make it again.")
    if version > max_version:
        raise FileFormatError(
            f"'{path}' has version {version} of '{kind}', this program reads up to {max_version}. Upgrade xpert."
        )
    return value


def refuse_pickle(path: Path, head: bytes) -> None:
    """Refuse content that a pickle-based checkpoint starts with.

    Raises
    ------
    UnsafeFileError
        ``head`` starts as a pickle or as a zip of pickles does.
    """
    # A safetensors file whose header has 640, 896, 1152 or 1408 bytes begins so as well. But a pickle goes on with an operation,
    # of which "(" is the lowest; a safetensors file has a zero there, unless its header has megabytes.
    is_pickle = head[:2] in {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"} and head[2:3] >= b"("
    if is_pickle or head[:4] == b"PK\x03\x04":
        raise UnsafeFileError(
            f"'{path}' is a pickled checkpoint, which could run code when read. Convert it to safetensors where it "
            "was made (model.save_pretrained(..., safe_serialization=True)) and give that file."
        )


def write_safetensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as safetensors, whole or not at all."""
    write_atomic(path, dump_safetensors(tensors, metadata))


def dump_safetensors(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return arrays as the bytes of a safetensors file."""
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    data: bytes = dump_tensors(arrays, metadata=dict(metadata or {}))
    return data


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read arrays and metadata of a safetensors file.

    Raises
    ------
    UnsafeFileError
        It is a pickled checkpoint.
    FileFormatError
        It is truncated or not safetensors.
    """
    data = read_bytes(path)
    refuse_pickle(path, data[:4])
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
        tensors: Tensors = {name: decode(e["data"], e["dtype"]).reshape(e["shape"]).copy() for name, e in entries}
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size].decode()).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"'{path}' is not a whole safetensors file of {len(data)} bytes: {error}. Was it cut? Fetch it again."
        ) from error
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def tensor_layout(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Read what a safetensors file says about its tensors, and check that the file is as long as that.

    Returns
    -------
    tuple
        Where the data begin, and name -> ``dtype``, ``shape`` and ``data_offsets``, which count from there.

    Raises
    ------
    UnsafeFileError
        It is a pickled checkpoint.
    FileFormatError
        It is truncated or not safetensors.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            refuse_pickle(path, head)
            with safe_open(path, framework="numpy"):
                pass  # the library checks header, offsets and length against each other
            size = int.from_bytes(head, "little")
            header = json.loads(stream.read(size))
    except (SafetensorError, ValueError, OSError) as error:
        raise FileFormatError(
            f"'{path}' is not a whole safetensors file: {error}. Was it cut? Remove it, and fetch or make it again."
        ) from error
    header.pop("__metadata__", None)
    return 8 + size, header


def decode(data: bytes, dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Turn a tensor's bytes into values of a type in `DTYPES`; bfloat16 becomes float32 without loss."""
    values = np.frombuffer(data, DTYPES[dtype])
    return (values.astype("<u4") << 16).view("<f4") if dtype == "BF16" else values


def _storage(path: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"Cannot write '{path}': {reason}. Nothing was changed. Free space or choose another place.")
