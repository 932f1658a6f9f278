"""An adapter as the programs take it: A and B of every projection of every layer, at one rank and one scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import TrainingError
from xpert.models.adapters import Adapter, LoraPair, check_base, read_adapter, write_adapter
from xpert_mobile.geometry import PROJECTIONS, Geometry, module_of, shapes_of

Array = NDArray[np.float32]


class AdapterState:
    """The trained values: ``layers[i]`` lists A and B of every projection, in the order of `PROJECTIONS`.

    Parameters
    ----------
    layers
        Arrays of shape (rank, n_inputs) and (n_outputs, rank).
    scale
        Factor of every product B A.
    """

    def __init__(self, layers: list[list[Array]], scale: float) -> None:
        self.layers = layers
        self.scale = np.array([scale], np.float32)

    @property
    def rank(self) -> int:
        """Rank of every module."""
        return int(self.layers[0][0].shape[0])

    def flat(self) -> list[Array]:
        """List all arrays, layer by layer."""
        return [array for layer in self.layers for array in layer]

    def copy(self) -> AdapterState:
        """Return a copy that training does not change."""
        return AdapterState([[array.copy() for array in layer] for layer in self.layers], float(self.scale[0]))


def fresh(geometry: Geometry, *, rank: int, alpha: float, seed: int) -> AdapterState:
    """Make a new adapter: A uniform as PEFT draws it, B zero, so that it changes nothing yet."""
    rng = np.random.default_rng(seed)
    shapes = shapes_of(geometry)
    layers = [
        [part for projection in PROJECTIONS for part in _fresh_pair(rng, shapes[projection], rank)]
        for _ in range(geometry.n_layers)
    ]
    return AdapterState(layers, alpha / rank)


def from_peft(folder: Path, geometry: Geometry, base_digest: str, *, rank: int, alpha: float, seed: int) -> AdapterState:
    """Read a PEFT adapter of any rank, scaling and choice of modules.

    Modules that it leaves out, and ranks up to ``rank``, start as those of a new adapter do and change nothing yet.

    Raises
    ------
    MismatchError
        It belongs to another base, or adapts modules that cannot be trained on the device.
    """
    adapter = read_adapter(folder)
    shapes = shapes_of(geometry)
    weights = {f"{_module(i, p)}.weight": shapes[p] for i in range(geometry.n_layers) for p in PROJECTIONS}
    check_base(adapter, base_digest, weights, name=str(folder))
    rank = max([rank, *(pair.A.shape[0] for pair in adapter.modules.values())])
    state = fresh(geometry, rank=rank, alpha=alpha, seed=seed)
    for i, layer in enumerate(state.layers):
        for j, projection in enumerate(PROJECTIONS):
            pair = adapter.modules.get(_module(i, projection))
            if pair is not None:
                r = pair.A.shape[0]
                layer[2 * j][:r] = pair.A
                layer[2 * j + 1][:, :r] = pair.B * (pair.scaling / float(state.scale[0]))
    return state


def to_peft(state: AdapterState, folder: Path, *, base_digest: str, base_name: str) -> None:
    """Write the adapter in PEFT's format, whole or not at all."""
    scale = float(state.scale[0])
    modules = {
        _module(i, projection): LoraPair(A=layer[2 * j], B=layer[2 * j + 1], scaling=scale)
        for i, layer in enumerate(state.layers)
        for j, projection in enumerate(PROJECTIONS)
    }
    if not all(np.isfinite(pair.B).all() and np.isfinite(pair.A).all() for pair in modules.values()):
        raise TrainingError("The adapter holds NaN or infinity and is not written. Lower the learning rate.")
    write_adapter(folder, Adapter(modules=modules, config={}, base_digest=base_digest), base_name=base_name)


def _module(layer: int, projection: str) -> str:
    return f"model.layers.{layer}.{module_of(projection)}"


def _fresh_pair(rng: np.random.Generator, shape: tuple[int, int], rank: int) -> tuple[Array, Array]:
    outputs, inputs = shape
    bound = inputs**-0.5
    return rng.uniform(-bound, bound, (rank, inputs)).astype(np.float32), np.zeros((outputs, rank), np.float32)
