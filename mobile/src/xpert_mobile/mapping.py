"""Arrays mapped from a safetensors file: the system loads pages as they are read, and drops them when it is told."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError

Array = NDArray[np.float32]
Header = dict[str, dict[str, Any]]


class MappedArrays:
    """The float32 arrays of a safetensors file; writes to them stay in memory.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    arrays
        Name -> array.

    Raises
    ------
    FileFormatError
        The file is cut, or holds something else than float32.
    """

    def __init__(self, path: Path) -> None:
        start, header = read_header(path)
        self.arrays: dict[str, Array] = {}
        try:
            with path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            for name, entry in header.items():
                if entry["dtype"] != "F32":
                    raise ValueError(f"{name} is {entry['dtype']}, not F32")
                begin, end = entry["data_offsets"]
                flat = np.frombuffer(self._map, np.float32, (end - begin) // 4, start + begin)
                self.arrays[name] = flat.reshape(entry["shape"])
        except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
            raise _broken(path, error) from error
        self._address = np.frombuffer(self._map, np.uint8).ctypes.data

    def release(self, array: Array) -> None:
        """Let the system drop the pages of a contiguous array from this process; they are loaded again when they are read."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        begin = array.ctypes.data - self._address
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (begin + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def read_header(path: Path) -> tuple[int, Header]:
    """Return where the data of a safetensors file begin, and name -> type, shape and offsets from there.

    Raises
    ------
    FileFormatError
        The header is cut or broken. That it fits the data is for `xpert.models.digest.tensor_digests` to check.
    """
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError(f"its header of {size} bytes is longer than the file")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        if not all(isinstance(entry, dict) for entry in header.values()):
            raise ValueError("its header does not describe tensors")
    except (ValueError, AttributeError, RecursionError, OSError) as error:
        raise _broken(path, error) from error
    return 8 + size, header


def _broken(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"'{path}' is not a whole safetensors file: {error}. Remove it, and fetch or convert it again.")
