"""A real encoder and space without torch: the surface statistics alone carry enough style for the core's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from xpert.core.catalogue import Catalogue
from xpert.core.data import PROBE_PROMPTS, axis_texts, stylebank
from xpert.core.encoder import Vectors
from xpert.core.explanation import explain_pairs
from xpert.core.space import StyleSpace, build_space
from xpert.core.surface import SURFACE_NAMES, surface_statistics

STYLES = ("concise", "informative", "poetic", "tweet", "shakespearean")


class SurfaceEncoder:
    """The statistics by themselves."""

    name, dim, n_sentence = "surface-1", len(SURFACE_NAMES), 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        return surface_statistics(texts)


@pytest.fixture(scope="session")
def encoder() -> SurfaceEncoder:
    return SurfaceEncoder()


@pytest.fixture(scope="session")
def space(encoder: SurfaceEncoder) -> StyleSpace:
    return build_space(axis_texts(), encoder, name="surface")


@pytest.fixture(scope="session")
def raw(encoder: SurfaceEncoder) -> dict[str, Vectors]:
    """Style -> raw vectors of its texts on the probe prompts, in the order of the prompts."""
    texts = sorted((t for t in stylebank() if t.id in PROBE_PROMPTS), key=lambda t: t.id)
    return {s: encoder.encode([t.text for t in texts if t.style == s]) for s in ("neutral", *STYLES)}


@pytest.fixture(scope="session")
def catalogue(space: StyleSpace, raw: dict[str, Vectors]) -> Catalogue:
    entries = [
        explain_pairs(
            style,
            raw["neutral"][:20],
            raw[style][:20],
            space,
            base_digest="b" * 64,
            adapter_digest=f"{i:02x}" * 32,
            adapter_bytes=1000 * (i + 1),
        )
        for i, style in enumerate(STYLES)
    ]
    return Catalogue.of(entries)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
