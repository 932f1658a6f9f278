"""Conversion of a model's weights into one float32 file, a block at a time: a phone cannot hold the model for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpert.core.errors import FileFormatError
from xpert.core.files import DTYPES, decode, tensor_layout, write_atomic

BLOCK = 1 << 20
"""Values converted at a time: the conversion holds a few times this many."""


class _Source(NamedTuple):
    """Where a tensor lies: ``begin`` and ``end`` in bytes from the beginning of ``file``."""

    file: Path
    begin: int
    end: int
    dtype: str
    shape: list[int]


def convert(files: list[Path], path: Path) -> None:
    """Write all tensors of ``files`` to ``path`` as float32, whole or not at all; the memory in use is that of a block.

    Parameters
    ----------
    files
        Whole safetensors files. Of a name that several hold the last one counts, as it does for the base's digest.
    path
        Where to write.

    Raises
    ------
    FileFormatError
        A tensor is of a type that cannot be converted, or a file changed while it was read.
    StorageError
        The disk is full, or the place cannot be written to.
    """
    sources = {name: source for file in files for name, source in _sources(file)}
    write_atomic(path, _blocks(sources))


def _sources(file: Path) -> Iterator[tuple[str, _Source]]:
    start, header = tensor_layout(file)
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise FileFormatError(
                f"Cannot convert '{file}': {name} is of type {entry['dtype']}, expected one of {', '.join(DTYPES)}. Give the "
                "model in half or full precision."
            )
        begin, end = entry["data_offsets"]
        yield name, _Source(file, start + begin, start + end, entry["dtype"], entry["shape"])


def _blocks(sources: Mapping[str, _Source]) -> Iterator[bytes]:
    """Yield the bytes of the new file, the header first."""
    header: dict[str, object] = {}
    place = 0
    for name, source in sources.items():
        size = 4 * (source.end - source.begin) // _item(source.dtype)
        header[name] = {"dtype": "F32", "shape": source.shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned and can be mapped
    yield len(text).to_bytes(8, "little") + text
    for source in sources.values():
        yield from _converted(source)


def _converted(source: _Source) -> Iterator[bytes]:
    place = source.begin
    try:
        with source.file.open("rb") as stream:
            stream.seek(place)
            while place < source.end:
                data = stream.read(min(BLOCK * _item(source.dtype), source.end - place))
                if not data:
                    raise OSError(f"it ends at {place} bytes, expected {source.end}")
                place += len(data)
                yield decode(data, source.dtype).astype("<f4").tobytes()
    except (OSError, ValueError) as error:
        raise FileFormatError(f"Cannot convert '{source.file}': {error}. Fetch the model again.") from error


def _item(dtype: str) -> int:
    """Return the bytes of a value."""
    return np.dtype(DTYPES[dtype]).itemsize
