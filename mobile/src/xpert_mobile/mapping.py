"""Arrays mapped from a safetensors file: the system loads pages as they are read, and drops them when it is told."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import tensor_layout

TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "I8": np.dtype(np.int8)}


class MappedArrays:
    """The arrays of a safetensors file; writes to them stay in memory.

    Parameters
    ----------
    path
        The file.
    dtypes
        Types that it may hold, as safetensors calls them.

    Attributes
    ----------
    arrays
        Name -> array.

    Raises
    ------
    FileFormatError
        The file is cut, or holds something else.
    """

    def __init__(self, path: Path, *, dtypes: Sequence[str] = ("F32",)) -> None:
        start, header = tensor_layout(path)
        other = [f"{name} is {entry['dtype']}" for name, entry in header.items() if entry["dtype"] not in dtypes]
        if other or not header:
            found = ", ".join(other[:4]) or "it holds no tensors"
            raise FileFormatError(
                f"Cannot map '{path}': {found}, expected {' or '.join(dtypes)}. Remove it, and fetch or make it again."
            )
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self.arrays: dict[str, Any] = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = TYPES[entry["dtype"]]
            flat = np.frombuffer(self._map, dtype, (end - begin) // dtype.itemsize, start + begin)
            self.arrays[name] = flat.reshape(entry["shape"])
        self._address = np.frombuffer(self._map, np.uint8).ctypes.data

    def release(self, array: NDArray[Any]) -> None:
        """Let the system drop the pages of a contiguous array from this process; they are loaded again when they are read."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        begin = array.ctypes.data - self._address
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (begin + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)
