"""The base in a bundle: weights in the precision asked for, tokenizer, chat template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.files import write_atomic
from xpert.models.prompting import OPEN_PROMPT
from xpert_mobile.bundle.manifest import Bundle, stored_shapes
from xpert_mobile.geometry import SCALED, TRANSPOSED, Geometry, layer_weights
from xpert_mobile.mapping import MappedArrays
from xpert_mobile.tokens import ChatTokenizer
from xpert_mobile.weights import MappedBase

WEIGHTS, TOKENIZER, TEMPLATE = "base/model.safetensors", "base/tokenizer.json", "base/chat_template.jinja"
LARGEST = 127
"""Largest magnitude of an int8 weight: the range is kept symmetric."""


def write_base(
    folder: Path, stage: Path, geometry: Geometry, base: MappedBase, *, name: str, precision: str, transposed: bool
) -> dict[str, Any]:
    """Write a base into a bundle and return what the manifest says of it.

    Parameters
    ----------
    folder
        The model.
    stage
        The bundle's folder.
    geometry, base
        Its sizes and weights.
    name
        Under which people know the model.
    precision
        One of `xpert_mobile.geometry.PRECISIONS`.
    transposed
        Whether projections are stored a second time, transposed.
    """
    tokens = ChatTokenizer(folder, n_tokens=geometry.vocabulary)
    write_atomic(stage / WEIGHTS, _blocks(base, stored_shapes(geometry, precision, transposed=transposed)))
    shutil.copyfile(folder / "tokenizer.json", stage / TOKENIZER)
    if tokens.template is not None:
        write_atomic(stage / TEMPLATE, tokens.template.encode())
    sizes = asdict(geometry)
    return {
        "name": name,
        "digest": base.digest,
        "weights": WEIGHTS,
        "precision": precision,
        "geometry": {**sizes, "rope": dict(geometry.rope)},
        "transposed": transposed,
        "layer_weights": layer_weights(geometry, precision, transposed=transposed),
        "tokenizer": TOKENIZER,
        **({"chat_template": TEMPLATE} if tokens.template is not None else {}),
        "special_tokens": tokens.specials,
        "end": tokens.end,
        "open_prompt": OPEN_PROMPT,
    }


def quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight (n_outputs, n_inputs) as whole numbers, and the scales of its rows (n_outputs, 1)."""
    scale = np.abs(weight).max(1, keepdims=True) / np.float32(LARGEST)
    divisor = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(weight / divisor), -LARGEST, LARGEST).astype(np.int8), scale.astype(np.float32)


class BundledBase:
    """The weights of a bundle, mapped; see `xpert_mobile.weights.BaseWeights`.

    Parameters
    ----------
    bundle
        The bundle, with a base.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest, geometry = bundle.manifest["base"], bundle.geometry
        self.digest = str(manifest["digest"])
        self._mapped = MappedArrays(bundle.folder / manifest["weights"], dtypes=("F32", "I8"))
        arrays = self.arrays = self._mapped.arrays
        names = manifest["layer_weights"]
        self.layers: Sequence[Sequence[NDArray[Any]]] = [
            [arrays[f"model.layers.{i}.{name}"] for name in names] for i in range(geometry.n_layers)
        ]
        self.embedding: NDArray[np.float32] = arrays["model.embed_tokens.weight"]
        self.norm: NDArray[np.float32] = arrays["model.norm.weight"]
        self.output: NDArray[np.float32] = self.embedding if geometry.tied else arrays["lm_head.weight"]

    def release(self, layer: int) -> None:
        """Let the system drop a layer's pages from this process."""
        for array in self.layers[layer]:
            self._mapped.release(array)

    def float_weights(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield every weight as floats under its Hugging Face name, int8 ones multiplied by their scales."""
        for name, array in self.arrays.items():
            if name.endswith(TRANSPOSED):
                continue
            if array.dtype == np.int8:
                yield name, array.astype(np.float32) * self.arrays[f"{name}_scale"]
            elif not name.endswith(SCALED):
                yield name, array


def _blocks(base: MappedBase, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> Iterator[bytes]:
    """Yield the bytes of a safetensors file, one tensor at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, (dtype, shape) in shapes.items():
        size = int(np.prod(shape)) * (1 if dtype == "I8" else 4)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)  # data that begin at a multiple of 64 are read fastest when they are mapped
    yield len(text).to_bytes(8, "little") + text
    for name, (dtype, _) in shapes.items():
        source = base.arrays[name.removesuffix("_scale").removesuffix("_transposed")]
        if name.endswith(SCALED):
            yield quantized(source)[1].tobytes()
            continue
        values = quantized(source)[0] if dtype == "I8" else source
        yield (values.T if name.endswith(TRANSPOSED) else values).tobytes()
