"""Merging by task arithmetic: which pLLMs, with which weights, bring a mix nearest to a user (paper, section on merging)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xpert.core.catalogue import Candidates
from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, write_json
from xpert.core.posterior import mean_noise
from xpert.core.space import Matrix

FORMAT = "xpert-recipe"
FORMAT_VERSION = 1
METHODS = ("exact", "svd")

MIN_GAIN = 0.1
"""A merge must come this much nearer than the best single pLLM, as a share of its distance; less is noise."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One pLLM of a merge and its weight."""

    name: str
    adapter_digest: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class MergeRecipe:
    """How to make a merged pLLM: base + sum of weight x (pLLM - base).

    Attributes
    ----------
    base_digest
        The base that all sources share.
    sources
        The pLLMs with their weights.
    method
        ``exact`` (rank concatenation) or ``svd`` (truncated).
    rank
        Rank after truncation, None for exact.
    error
        Length of what truncation removed over that of the exact update; 0 for exact.
    """

    base_digest: str
    sources: tuple[Source, ...]
    method: str = "exact"
    rank: int | None = None
    error: float = 0.0

    def save(self, path: Path) -> None:
        """Write the recipe as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> MergeRecipe:
        """Read a recipe.

        Raises
        ------
        FileFormatError
            It is cut, edited beyond use, of another format or of a newer version.
        """
        value = read_json(path, format=FORMAT, max_version=FORMAT_VERSION)
        try:
            recipe = cls(
                base_digest=str(value["base_digest"]),
                sources=tuple(_source(source) for source in value["sources"]),
                method=str(value["method"]),
                rank=None if value["rank"] is None else int(value["rank"]),
                error=float(value.get("error", 0.0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"'{path}' is no usable merge recipe: {error!r}. Make it again.") from error
        if not recipe.sources or recipe.method not in METHODS or (recipe.method == "svd") != (recipe.rank is not None):
            raise FileFormatError(
                f"'{path}' is no usable merge recipe: it needs sources, a method of {METHODS}, and a rank for svd."
            )
        return recipe


@dataclass(frozen=True, kw_only=True)
class MergeProposal:
    """The best mix for a user, and whether it is worth it.

    Attributes
    ----------
    recipe
        The mix.
    coefficients
        What the mix is expected to have, a value a word.
    distance
        From the user to the mix, in standard deviations of the noise.
    single, single_distance
        The best single pLLM at full weight, and its distance.
    wins
        Whether the mix is nearer by more than noise: by at least a tenth, and with more than one source.
    """

    recipe: MergeRecipe
    coefficients: tuple[float, ...]
    distance: float
    single: str
    single_distance: float
    wins: bool


def solve_merge(
    value: Matrix,
    candidates: Candidates,
    *,
    n_texts: int,
    paired: bool = False,
    max_sources: int = 2,
    max_weight: float = 1.25,
    digests: Mapping[str, str] | None = None,
) -> MergeProposal:
    """Find the pLLMs and weights whose mix comes nearest to a user's coefficients.

    Coefficients of a mix are taken as the weighted sum of those of its sources, which holds while the task vectors are
    small against the base; explain the merged adapter to know.

    Parameters
    ----------
    value
        Mean coefficients of the user as differences to the base, shape (n_axes,).
    candidates
        The catalogue.
    n_texts, paired
        How the user's mean was made, for the metric.
    max_sources
        Most pLLMs in the mix.
    max_weight
        Largest weight of one; weights are never negative.
    digests
        Adapter digest by name, for the recipe.

    Raises
    ------
    InputError
        ``max_sources`` or ``max_weight`` is out of range.
    """
    if max_sources < 1 or not max_weight > 0:
        raise InputError(f"A merge takes at least one source and a weight above 0, found {max_sources} and {max_weight}.")
    factor = np.linalg.cholesky(np.linalg.inv(mean_noise(candidates, n_texts, paired=paired))).T
    sources, target = candidates.coefficients @ factor.T, factor @ value
    single_distances = np.linalg.norm(sources - target, axis=1)
    best_single = int(single_distances.argmin())
    best: tuple[float, tuple[int, ...], Matrix] = (float("inf"), (), np.zeros(0))
    for size in range(1, min(max_sources, len(sources)) + 1):
        for chosen in combinations(range(len(sources)), size):
            weights = _bounded_least_squares(sources[list(chosen)].T, target, max_weight)
            distance = float(np.linalg.norm(weights @ sources[list(chosen)] - target))
            # A further source must earn its place; otherwise every mix would take as many as it may.
            if (weights > 0.05).all() and distance < best[0] * (0.95 if size > len(best[1]) and best[1] else 1.0):
                best = (distance, chosen, weights)
    distance, chosen, weights = best if best[1] else (float(single_distances[best_single]), (best_single,), np.ones(1))
    names = [candidates.names[i] for i in chosen]
    recipe = MergeRecipe(
        base_digest=candidates.base_digest,
        sources=tuple(
            Source(name=name, adapter_digest=(digests or {}).get(name, ""), weight=round(float(weight), 4))
            for name, weight in zip(names, weights, strict=True)
        ),
    )
    return MergeProposal(
        recipe=recipe,
        coefficients=tuple(map(float, weights @ candidates.coefficients[list(chosen)])),
        distance=distance,
        single=candidates.names[best_single],
        single_distance=float(single_distances[best_single]),
        wins=len(chosen) > 1 and distance < (1 - MIN_GAIN) * float(single_distances[best_single]),
    )


def _bounded_least_squares(matrix: Matrix, target: Matrix, bound: float) -> Matrix:
    """Minimize |matrix @ x - target| for 0 <= x <= bound by trying every set of free variables; exact for a few columns."""
    n = matrix.shape[1]
    best, best_error = np.zeros(n), float(target @ target)
    for states in np.ndindex(*([3] * n)):
        state = np.array(states)
        x = np.where(state == 1, bound, 0.0)
        free = state == 2
        if free.any():
            x[free] = np.linalg.lstsq(matrix[:, free], target - matrix @ x, rcond=None)[0]
        gap = matrix @ x - target
        error = float(gap @ gap)
        if (x >= 0).all() and (x <= bound).all() and error < best_error:
            best, best_error = x, error
    return best


def _source(value: Mapping[str, Any]) -> Source:
    weight = float(value["weight"])
    if not np.isfinite(weight):
        raise ValueError(f"weight is {weight}")
    return Source(name=str(value["name"]), adapter_digest=str(value["adapter_digest"]), weight=weight)
