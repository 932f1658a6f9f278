"""Text to vector: the protocols every encoder meets, and the joint encoder that XPerT uses by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xpert.core.surface import SURFACE_NAMES, SURFACE_VERSION, surface_statistics

Vectors = NDArray[np.float32]


class SentenceEncoder(Protocol):
    """Embeds texts by their meaning."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return the embeddings of ``texts``, shape (n_texts, dim), each row of length 1."""
        ...


class Encoder(Protocol):
    """Embeds texts for a style space.

    ``n_sentence`` says how many leading columns are a sentence embedding; the others are statistics, which a style space
    standardizes.
    """

    name: str
    dim: int
    n_sentence: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return raw vectors of ``texts``, shape (n_texts, dim)."""
        ...


class JointEncoder:
    """A sentence embedding beside the surface style statistics.

    Sentence embeddings carry topic and some tone, the statistics carry the manner; the style space weighs them.

    Parameters
    ----------
    sentence
        The sentence encoder, on whatever engine.
    """

    def __init__(self, sentence: SentenceEncoder) -> None:
        self.sentence = sentence
        self.n_sentence = sentence.dim
        self.dim = sentence.dim + len(SURFACE_NAMES)
        self.name = f"{sentence.name}+surface-{SURFACE_VERSION}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return [sentence embedding ; surface statistics] of ``texts``, shape (n_texts, dim)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.concatenate([self.sentence.encode(texts), surface_statistics(texts)], axis=1).astype(np.float32)
