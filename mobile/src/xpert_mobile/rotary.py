"""What the programs take about positions: the causal mask, and rotary tables, plain or with Llama 3's scaling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpert_mobile.geometry import MASKED, Geometry


def context_tables(geometry: Geometry, length: int) -> list[NDArray[np.float32]]:
    """Return what every layer takes beside its values: the causal mask (length, length), cosines and sines."""
    return [np.triu(np.full((length, length), MASKED, np.float32), 1), *rotary_tables(geometry, length)]


def rotary_tables(geometry: Geometry, length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines of positions 0 to ``length`` - 1, each of shape (length, head_dim)."""
    rope = dict(geometry.rope)
    frequency = rope["rope_theta"] ** (-np.arange(0, geometry.head_dim, 2) / geometry.head_dim)
    if "factor" in rope:
        frequency = _llama3(frequency, rope)
    angle = np.arange(length)[:, None] * frequency
    angle = np.concatenate([angle, angle], axis=1)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _llama3(frequency: NDArray[np.float64], rope: dict[str, float]) -> NDArray[np.float64]:
    """Slow the low frequencies down by ``factor``, keep the high ones, and blend between (Llama 3.1's report)."""
    turns = rope["original_max_position_embeddings"] * frequency / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    blend = np.clip((turns - low) / (high - low), 0, 1)
    scaled: NDArray[np.float64] = frequency * (blend + (1 - blend) / rope["factor"])
    return scaled
