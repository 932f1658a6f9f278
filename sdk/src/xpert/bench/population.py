"""Synthetic pLLMs and users, drawn as real ones are explained: from the answers of styles to prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xpert.bench.trials import Grid
from xpert.core.catalogue import BYTES_A_PLLM, COMPACT_FORMAT, FORMAT_VERSION, SCALE
from xpert.core.sealed import seal, shared_arrays
from xpert.core.space import Matrix

Shares = NDArray[np.float32]

N_PROBES = 50
SHARE_OF_PROMPTS = 0.62
"""Of the prompts, so many are probes; the users write about the others."""

CHUNK = 20_000
"""pLLMs that are drawn at a time."""

NOISE_SAMPLE = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """pLLMs of one base.

    Attributes
    ----------
    grid
        Coefficients of answers by style and prompt; style 0 is the base.
    probes, prompts
        Prompts that pLLMs are explained on, and those that users write about.
    shares
        Share of each pLLM's answers that are in each style, shape (n_pllms, n_styles).
    coefficients
        Their explanations, shape (n_pllms, n_axes).
    noise
        Covariance of the coefficients of a single probe.
    """

    grid: Grid = field(repr=False)
    probes: NDArray[np.int64] = field(repr=False)
    prompts: NDArray[np.int64] = field(repr=False)
    shares: Shares = field(repr=False)
    coefficients: NDArray[np.float32] = field(repr=False)
    noise: Matrix = field(repr=False)

    @property
    def base_coefficients(self) -> Matrix:
        """The base's mean over the probes, shape (n_axes,)."""
        mean: Matrix = self.grid[0, self.probes].mean(0)
        return mean

    def compact(self, words: tuple[str, ...], n_statistics: int, *, seed: int) -> bytes:
        """Return the compact catalogue's file; ids and sizes are made up."""
        n = len(self.shares)
        rng = np.random.default_rng(seed)
        strength = np.linalg.norm(self.coefficients, axis=1)
        each: dict[str, NDArray[np.generic]] = {
            "coefficients": np.clip(np.rint(self.coefficients / SCALE), -32767, 32767).astype(np.int16),
            "ids": rng.integers(0, 256, (n, 8)).astype(np.uint8),
            "kib": rng.integers(500, 20_000, n).astype(np.uint32),
            "strength": strength.astype(np.float16),
            "residual": np.full(n, 0.5, np.float16),
        }
        size = sum(array.nbytes for array in each.values()) // n
        if size > BYTES_A_PLLM:
            raise AssertionError(f"{size} bytes a pLLM, as no real catalogue has")
        header = {
            "format": COMPACT_FORMAT,
            "version": FORMAT_VERSION,
            "base_digest": hashlib.sha256(b"base").hexdigest(),
            "space_digest": hashlib.sha256(b"space").hexdigest(),
            "words": list(words),
            "n_probes": N_PROBES,
        }
        return seal(header, {**each, **shared_arrays(self.noise, self.base_coefficients, np.zeros(n_statistics))})[0]

    def user(self, rng: np.random.Generator, truth: int, *, similarity: float, n_texts: int) -> Matrix:
        """Draw the texts' coefficients of a user in the style of a pLLM, shape (n_texts, n_axes); the rest is in any style."""
        own = max(round(similarity * n_texts), 1)
        shares = self.shares[truth].astype(np.float64)
        styles = np.r_[rng.choice(len(shares), own, p=shares / shares.sum()), rng.integers(len(self.grid), size=n_texts - own)]
        texts: Matrix = self.grid[styles, rng.choice(self.prompts, n_texts, replace=False)]
        return texts


def populate(grid: Grid, n: int, *, seed: int) -> Population:
    """Draw pLLMs: each of one to three styles in any proportion, answering in none of them up to half of the time.

    Each has answered probes of its own, so that its explanation has the noise of a real one.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(grid.shape[1])
    cut = round(SHARE_OF_PROMPTS * grid.shape[1])
    probes, prompts = order[:cut], order[cut:]
    shares = _shares(rng, n, len(grid))
    single = (grid[:, probes] - grid[0, probes]).astype(np.float32)
    coefficients = np.empty((n, grid.shape[2]), np.float32)
    for start in range(0, n, CHUNK):
        coefficients[start : start + CHUNK] = _answers(rng, shares[start : start + CHUNK], single).mean(1)
    sample = _answers(rng, shares[rng.integers(n, size=NOISE_SAMPLE)], single).astype(np.float64)
    left = (sample - sample.mean(1, keepdims=True)).reshape(-1, grid.shape[2])
    noise = left.T @ left / (len(left) - NOISE_SAMPLE)
    return Population(grid=grid, probes=probes, prompts=prompts, shares=shares, coefficients=coefficients, noise=noise)


def _shares(rng: np.random.Generator, n: int, n_styles: int) -> Shares:
    """Draw the share of each style in each pLLM's answers, the base's first."""
    how_many = rng.choice([1, 2, 3], n, p=[0.3, 0.4, 0.3])
    which = np.argsort(rng.random((n, n_styles - 1), np.float32), axis=1)[:, :3] + 1
    weights = rng.gamma(2.0, size=(n, 3)) * (np.arange(3) < how_many[:, None])
    plain = rng.uniform(0, 0.5, n)
    shares = np.zeros((n, n_styles), np.float32)
    values = weights / weights.sum(1, keepdims=True) * (1 - plain[:, None])
    np.put_along_axis(shares, which, values.astype(np.float32), axis=1)
    shares[:, 0] = plain
    return shares


def _answers(rng: np.random.Generator, shares: Shares, single: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw each pLLM's answers to its probes as differences to the base, shape (n, n_probes, n_axes)."""
    bounds = np.cumsum(shares, axis=1)
    drawn = rng.random((len(shares), N_PROBES), np.float32)[:, :, None] * bounds[:, None, -1:]
    styles = (drawn > bounds[:, None]).sum(2).clip(0, len(single) - 1)
    found: NDArray[np.float32] = single[styles, rng.integers(single.shape[1], size=styles.shape)]
    return found
