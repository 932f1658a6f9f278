"""Arrays mapped from a safetensors file: the system loads pages as they are read, and drops them when it is told."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import tensor_layout

Array = NDArray[np.float32]


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
        start, header = tensor_layout(path)
        other = [f"{name} is {entry['dtype']}" for name, entry in header.items() if entry["dtype"] != "F32"]
        if other or not header:
            raise FileFormatError(
                f"Cannot map '{path}': {', '.join(other[:4]) or 'it holds no tensors'}, expected F32. Remove it, and fetch or "
                "make it again."
            )
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self.arrays: dict[str, Array] = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            self.arrays[name] = np.frombuffer(self._map, np.float32, (end - begin) // 4, start + begin).reshape(entry["shape"])
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
