"""Simulated choices: draw probes, a style and a user's texts, choose, and see whether the choice was right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import SCALE, Candidates
from xpert.core.posterior import mean_noise, posterior
from xpert.core.selection import TEMPERATURE
from xpert.core.space import Matrix

Grid = NDArray[np.float64]
"""Vectors of texts, shape (n_styles, n_prompts, dim); style 0 is the base."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One simulated choice.

    Attributes
    ----------
    probes, prompts
        Indices of the prompts that pLLMs are explained on, and of those the user wrote about.
    recipe
        For every pLLM, the style of its answer to each probe, shape (n_pllms, n_probes).
    sources
        The style of each of the user's texts.
    truth
        Which pLLM is the right one.
    """

    probes: NDArray[np.int64]
    prompts: NDArray[np.int64]
    recipe: NDArray[np.int64]
    sources: NDArray[np.int64]
    truth: int


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What trials vary.

    Attributes
    ----------
    n_texts, n_probes
        How many texts the user has, how many probes the pLLMs answered.
    similarity
        Share of the user's texts in the right pLLM's style; the rest is drawn from all styles, the base's and (by chance) the
        right one included: among 9 styles, 30 % is 38 % on average.
    others_only
        Draw the rest without the right pLLM's styles instead.
    paired
        Whether the base's answers to the user's prompts are known.
    """

    n_texts: int
    n_probes: int = 50
    similarity: float = 1.0
    others_only: bool = False
    paired: bool = True


def draw(rng: np.random.Generator, pllms: Sequence[tuple[int, ...]], n_styles: int, n_prompts: int, setting: Setting) -> Draw:
    """Draw one trial; ``pllms`` lists every pLLM's styles (one, or two for a mixture), 0 being the base."""
    order = rng.permutation(n_prompts)
    probes, prompts = order[: setting.n_probes], order[setting.n_probes : setting.n_probes + setting.n_texts]
    recipe = np.array([rng.permutation(np.resize(styles, setting.n_probes)) for styles in pllms])
    truth = int(rng.integers(len(pllms)))
    n_own = max(round(setting.similarity * setting.n_texts), 1)
    own = rng.permutation(np.resize(pllms[truth], n_own))
    crowd = [style for style in range(n_styles) if not (setting.others_only and style in pllms[truth])]
    rest = rng.choice(crowd, setting.n_texts - n_own)
    return Draw(probes=probes, prompts=prompts, recipe=recipe, sources=np.r_[own, rest], truth=truth)


def answers(grid: Grid, trial: Draw) -> tuple[Grid, Grid]:
    """Return each pLLM's single-probe differences (n_pllms, n_probes, dim) and the base's probe vectors (n_probes, dim)."""
    base = grid[0, trial.probes]
    return grid[trial.recipe, trial.probes[None]] - base, base


def user_mean(grid: Grid, trial: Draw, base: Grid, *, paired: bool) -> Matrix:
    """Return the user's mean difference to the base, shape (dim,)."""
    texts = grid[trial.sources, trial.prompts]
    mean: Matrix = (texts - (grid[0, trial.prompts] if paired else base.mean(0))).mean(0)
    return mean


def by_coefficients(grid: Grid, trial: Draw, setting: Setting, *, words: tuple[str, ...]) -> tuple[int, float]:
    """Choose by the rule of the product at the precision of the compact catalogue; returns the choice and its confidence."""
    single, base = answers(grid, trial)
    mean = np.rint(single.mean(1) / SCALE) * SCALE
    left = (single - single.mean(1, keepdims=True)).reshape(-1, single.shape[-1])
    candidates = Candidates(
        base_digest="",
        space_digest="",
        words=words,
        names=tuple(map(str, range(len(mean)))),
        coefficients=mean,
        noise=left.T @ left / (len(left) - len(mean)),
        base_coefficients=base.mean(0),
        base_unexplained=np.zeros(0),
        n_probes=setting.n_probes,
        adapter_bytes=np.zeros(len(mean), np.int64),
    )
    value = user_mean(grid, trial, base, paired=setting.paired)
    score, _ = posterior(value, candidates, mean_noise(candidates, setting.n_texts, paired=setting.paired))
    weight = np.exp((score - score.max()) / TEMPERATURE)
    return int(score.argmax()), float(weight.max() / weight.sum())


def by_cosine(grid: Grid, trial: Draw, setting: Setting) -> tuple[int, float]:
    """Choose by the plain cosine of mean differences: the baseline for any kind of vector."""
    single, base = answers(grid, trial)
    mean, value = single.mean(1), user_mean(grid, trial, base, paired=setting.paired)
    cosine = mean @ value / (np.linalg.norm(mean, axis=1) * np.linalg.norm(value) + 1e-12)
    return int(cosine.argmax()), float(cosine.max())


def by_chance(grid: Grid, trial: Draw, setting: Setting) -> tuple[int, float]:
    """Choose without looking."""
    del grid, setting
    return int(np.random.default_rng(int(trial.prompts.sum())).integers(len(trial.recipe))), 1 / len(trial.recipe)


def run(
    grid: Grid,
    pllms: Sequence[tuple[int, ...]],
    setting: Setting,
    rule: Callable[[Grid, Draw, Setting], tuple[int, float]],
    *,
    trials: int,
    seed: int = 0,
) -> list[tuple[float, bool]]:
    """Run trials of one setting; returns (confidence, right) of each."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(trials):
        trial = draw(rng, pllms, grid.shape[0], grid.shape[1], setting)
        choice, confidence = rule(grid, trial, setting)
        out.append((confidence, choice == trial.truth))
    return out


def accuracy(outcomes: Sequence[tuple[float, bool]]) -> float:
    """Return the share of right choices."""
    return round(float(np.mean([right for _, right in outcomes])), 4)


def reliability(outcomes: Sequence[tuple[float, bool]], *, n_bins: int = 8) -> list[tuple[float, float, int]]:
    """Sort choices by confidence into bins of equal number; returns (mean confidence, share right, number) of each."""
    ordered = sorted(outcomes)
    parts = [part for part in np.array_split(np.array(ordered, float), n_bins) if len(part)]
    return [(round(float(p[:, 0].mean()), 4), round(float(p[:, 1].mean()), 4), len(p)) for p in parts]
