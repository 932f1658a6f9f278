"""A base model's weights as float32 arrays mapped from one file: the system loads and drops pages as it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import read_safetensors, write_safetensors
from xpert.models.digest import base_digest, tensor_digests, weight_files
from xpert_mobile.geometry import Geometry, weight_names

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
        A weight is missing or of another shape than the config says.
    """

    def __init__(self, base: Path, geometry: Geometry, cache: Path) -> None:
        self.digest = base_digest(base)
        files = weight_files(base)
        path = files[0] if len(files) == 1 and _all_float32(files[0]) else cache / f"{self.digest}.f32.safetensors"
        if not path.exists():
            _convert(files, path)
        arrays = map_safetensors(path)
        try:
            names = weight_names(geometry)
            self.layers = [[arrays[f"model.layers.{i}.{name}"] for name in names] for i in range(geometry.n_layers)]
            self.embedding = arrays["model.embed_tokens.weight"]
            self.norm = arrays["model.norm.weight"]
            self.output = self.embedding if geometry.tied else arrays["lm_head.weight"]
        except KeyError as error:
            raise FileFormatError(f"'{base}' lacks the weight {error}, which its config calls for. Fetch it again.") from error
        if self.embedding.shape != (geometry.vocabulary, geometry.hidden):
            raise FileFormatError(
                f"'{base}' has an embedding of shape {self.embedding.shape}, its config says "
                f"{(geometry.vocabulary, geometry.hidden)}. Fetch it again."
            )


def map_safetensors(path: Path) -> dict[str, Array]:
    """Map the float32 arrays of a safetensors file that has been checked before; writes to them stay in memory."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header: Mapping[str, dict[str, list[int]]] = json.loads(stream.read(size))
    data = np.memmap(path, np.uint8, mode="c", offset=0)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            arrays[name] = data[8 + size + begin : 8 + size + end].view(np.float32).reshape(entry["shape"])
    return arrays


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
