"""Catalogues by chance, without an explanation behind each pLLM."""

from __future__ import annotations

import numpy as np

from xpert.core.catalogue import Compact
from xpert.core.cutting import Points


def whole_of(n: int, *, n_words: int = 24, seed: int = 0) -> Compact:
    rng = np.random.default_rng(seed)
    styles = rng.normal(0, 0.3, (8, n_words))
    root = rng.normal(0, 0.03, (n_words, n_words))
    return Compact(
        base_digest="b" * 64,
        space_digest="5" * 64,
        words=tuple(f"w{i}" for i in range(n_words)),
        n_probes=50,
        digest="d" * 64,
        coefficients=rng.dirichlet(np.full(8, 0.3), n) @ styles + rng.normal(0, 0.02, (n, n_words)),
        noise=root @ root.T + 0.01 * np.eye(n_words),
        base_coefficients=rng.normal(0, 0.1, n_words),
        base_unexplained=np.zeros(5),
        ids=rng.integers(0, 256, (n, 8)).astype(np.uint8),
        kib=rng.integers(1, 2**20, n).astype(np.uint32),
    )


def evenly(points: Points, n: int) -> Points:
    """Take points themselves as centres."""
    return points[:: max(len(points) // n, 1)]
