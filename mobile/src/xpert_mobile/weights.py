"""A base model's weights as float32 arrays mapped from one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import remove_abandoned, tensor_layout
from xpert.models.digest import base_digest, weight_files
from xpert_mobile.conversion import convert
from xpert_mobile.geometry import Geometry, shapes_of, weight_names
from xpert_mobile.mapping import MappedArrays

Array = NDArray[np.float32]

CHECKED = 1 << 20
"""Values read at a time while weights are checked: more of them are not held in memory."""


class BaseWeights(Protocol):
    """Weights of a base as training and generation read them.

    Attributes
    ----------
    digest
        Of the base.
    layers
        What programs take of every layer, in their order.
    embedding, norm, output
        Shapes (vocabulary, hidden), (hidden,), (vocabulary, hidden).
    """

    digest: str
    layers: Sequence[Sequence[NDArray[Any]]]
    embedding: Array
    norm: Array
    output: Array

    def release(self, layer: int) -> None:
        """Let the system drop a layer's pages from this process; they are loaded again when they are read."""
        ...


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
    StorageError
        There is no room for the converted file.
    """

    def __init__(self, base: Path, geometry: Geometry, cache: Path) -> None:
        self.digest = base_digest(base)
        files = weight_files(base)
        path = files[0]
        if len(files) > 1 or not _all_float32(path):
            path = cache / f"{self.digest}.f32.safetensors"
            remove_abandoned(path)
            if not path.exists():
                convert(files, path)
        self._mapped = MappedArrays(path)
        arrays = self.arrays = self._mapped.arrays
        self._check(geometry, base)
        names = weight_names(geometry)
        self.layers: Sequence[Sequence[NDArray[Any]]] = [
            [arrays[f"model.layers.{i}.{name}"] for name in names] for i in range(geometry.n_layers)
        ]
        self.embedding = arrays["model.embed_tokens.weight"]
        self.norm = arrays["model.norm.weight"]
        self.output = self.embedding if geometry.tied else arrays["lm_head.weight"]

    def release(self, layer: int) -> None:
        """Let the system drop a layer's pages from this process; they are loaded again when they are read."""
        for array in self.layers[layer]:
            self._mapped.release(array)

    def _check(self, geometry: Geometry, base: Path) -> None:
        """Compare all weights with what the config calls for; the message lists every misfit."""
        problems = []
        for name, shape in weight_shapes(geometry).items():
            found = self._mapped.arrays.get(name)
            if found is None:
                problems.append(f"it lacks {name}")
            elif found.shape != shape:
                problems.append(f"{name} is {found.shape}, its config says {shape}")
            elif not self._is_finite(found):
                problems.append(f"{name} holds NaN or infinity")
        if problems:
            more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
            raise FileFormatError(f"Cannot use the base '{base}': {'; '.join(problems[:4])}{more}. Fetch it again.")

    def _is_finite(self, array: Array) -> bool:
        flat = array.reshape(-1)
        for start in range(0, flat.size, CHECKED):
            block = flat[start : start + CHECKED]
            finite = bool(np.isfinite(block).all())
            self._mapped.release(block)
            if not finite:
                return False
        return True


def weight_shapes(geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight that a base of this geometry has."""
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
    start, header = tensor_layout(path)
    return start % 4 == 0 and all(entry["dtype"] == "F32" for entry in header.values())
