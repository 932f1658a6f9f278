"""A base model's weights as float32 arrays mapped from one file: the system loads and drops pages as it needs."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import read_safetensors, write_safetensors
from xpert.models.digest import base_digest, tensor_digests, weight_files
from xpert_mobile.geometry import Geometry, shapes_of, weight_names

Array = NDArray[np.float32]


class MappedBase:
    """The weights of a base model, mapped.

    A model that is one float32 file is mapped where it lies; another (half precision, several files) is converted once into
    ``cache``.

    Parameters
    ----------
    base
        Folder of the model.
    geometry
        Its geometry.
    cache
        Folder for the converted file.

    Raises
    ------
    FileFormatError
        A weight is missing, of another shape than the config says, or not finite.
    """

    def __init__(self, base: Path, geometry: Geometry, cache: Path) -> None:
        self.digest = base_digest(base)
        files = weight_files(base)
        path = files[0] if len(files) == 1 and _all_float32(files[0]) else cache / f"{self.digest}.f32.safetensors"
        if not path.exists():
            _convert(files, path)
        self._map, arrays = map_safetensors(path)
        _check(arrays, geometry, base)
        names = weight_names(geometry)
        self.layers = [[arrays[f"model.layers.{i}.{name}"] for name in names] for i in range(geometry.n_layers)]
        self.embedding = arrays["model.embed_tokens.weight"]
        self.norm = arrays["model.norm.weight"]
        self.output = self.embedding if geometry.tied else arrays["lm_head.weight"]
        for i in range(geometry.n_layers):
            self.release(i)

    def release(self, layer: int) -> None:
        """Let the system drop a layer's pages from this process; they are mapped again when they are read."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = np.frombuffer(self._map, np.uint8).ctypes.data
        for array in self.layers[layer]:
            begin = -(-(array.ctypes.data - start) // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (array.ctypes.data - start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - begin
            if length > 0:
                self._map.madvise(mmap.MADV_DONTNEED, begin, length)


def map_safetensors(path: Path) -> tuple[mmap.mmap, dict[str, Array]]:
    """Map the float32 arrays of a safetensors file that has been checked before; writes to them stay in memory."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header: Mapping[str, dict[str, list[int]]] = json.loads(stream.read(size))
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(data, np.float32, (end - begin) // 4, 8 + size + begin).reshape(entry["shape"])
    return data, arrays


def _check(arrays: Mapping[str, Array], geometry: Geometry, base: Path) -> None:
    """Compare all weights with what the config calls for; the message lists every misfit."""
    problems = []
    for name, shape in _shapes(geometry).items():
        found = arrays.get(name)
        if found is None:
            problems.append(f"it lacks {name}")
        elif found.shape != shape:
            problems.append(f"{name} is {found.shape}, its config says {shape}")
        elif not np.isfinite(found.sum(dtype=np.float64)):
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise FileFormatError(f"Cannot use the base '{base}': {'; '.join(problems[:4])}{more}. Fetch it again.")


def _shapes(geometry: Geometry) -> dict[str, tuple[int, ...]]:
    projections = shapes_of(geometry)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (geometry.vocabulary, geometry.hidden)}
    shapes["model.norm.weight"] = (geometry.hidden,)
    if not geometry.tied:
        shapes["lm_head.weight"] = (geometry.vocabulary, geometry.hidden)
    for name in weight_names(geometry):
        parts = name.split(".")
        shape = projections[parts[1]] if len(parts) == 3 else (geometry.hidden,)
        for i in range(geometry.n_layers):
            shapes[f"model.layers.{i}.{name}"] = shape[:1] if parts[-1] == "bias" else shape
    return shapes


def _all_float32(path: Path) -> bool:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    aligned = (8 + size) % 4 == 0
    return aligned and all(entry["dtype"] == "F32" for name, entry in header.items() if name != "__metadata__")


def _convert(files: list[Path], path: Path) -> None:
    arrays: dict[str, Array] = {}
    for file in files:
        tensor_digests(file)
        arrays |= {name: value.astype(np.float32) for name, value in read_safetensors(file)[0].items()}
    write_safetensors(path, arrays)
