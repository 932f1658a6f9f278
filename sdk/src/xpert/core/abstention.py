"""How strange a user is to a catalogue, and how alike its pLLMs: what selection abstains on (docs/adr/0004-abstention.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import Candidates
from xpert.core.posterior import SHARES, mean_noise, remainders
from xpert.core.space import Matrix, StyleSpace

MIN_MARGIN = 0.1
"""A lead below this, in probability, over the next pLLM of another style is a toss-up."""

MISFIT_LIMIT = 1.05
"""Above this misfit no pLLM has the user's style. `xpert bench starter-selection` prints what lies on either side: StyleBank
texts whose style is in the catalogue, and whose style was taken out of it; other people's ways of a known style reach 0.81."""

NOVELTY_LIMIT = 0.65
"""Above this novelty the words themselves miss the user's manner. By `xpert bench users`, draws of 20 texts of the example
users with a style stay below 0.5, those of the one without above 0.8: a limit set on few people."""

MISFIT_SHARES = np.r_[SHARES, np.linspace(1.05, 1.5, 10)]
"""Someone may write a style more strongly than its pLLM does; that is no misfit, up to half as strong again."""

MISFIT_CEILING = 1e3
"""What `misfit` gives where a pLLM explains nothing: a number that every format can hold."""

OUTLIER = 5.0
"""Whitened statistics of one text are cut here, in standard deviations: one text full of semicolons is no manner."""


def misfit(value: Matrix, candidates: Candidates, noise: Matrix) -> float:
    """Measure how badly the best pLLM explains a user's mean coefficients, whatever the share and strength.

    Returns
    -------
    float
        Length of what remains beyond the noise, over the length of what the pLLM explains, in units of the noise of one
        text: 0 for a style that is there, about 1 and more for one that is not.
    """
    single = 0.5 * candidates.noise + (0.5 * np.trace(candidates.noise) / len(noise) + 1e-9) * np.eye(len(noise))
    metric = np.linalg.inv(single)
    left, length = remainders(value, candidates, metric, MISFIT_SHARES)
    row, share = np.unravel_index(left.argmin(), left.shape)
    beyond = max(float(left[row, share]) - float(np.trace(metric @ noise)), 0.0)
    explained = float(length[row] * MISFIT_SHARES[share] ** 2)
    return min((beyond / explained) ** 0.5, MISFIT_CEILING) if explained > 0 else MISFIT_CEILING


def novelty(space: StyleSpace, raw: NDArray[np.floating], candidates: Candidates) -> float:
    """Measure the manner that all of a user's texts share and no word of the space describes.

    Products of different texts only are averaged, so that what single texts have by chance cancels; outliers are cut.

    Parameters
    ----------
    space
        The style space of the catalogue.
    raw
        Raw vectors of the texts, shape (n_texts, dim).
    candidates
        The catalogue: it knows what the base's own answers leave unexplained.

    Returns
    -------
    float
        Squared length of the shared unexplained part of the statistics over that of the explained part; 0 for one text.
    """
    candidates.check_space(space)
    n = len(raw)
    if n < 2:
        return 0.0
    left = np.clip(space.unexplained(raw) - candidates.base_unexplained, -OUTLIER, OUTLIER)
    total = left.sum(0)
    shared = float(total @ total - np.sum(left**2)) / (n * (n - 1))
    explained = (space.coefficients(raw).mean(0) - candidates.base_coefficients) @ space.axes.astype(np.float64)
    return max(shared, 0.0) / max(float(explained @ explained), 1e-12)


def twins(candidates: Candidates, first: int) -> NDArray[np.bool_]:
    """Find the pLLMs that the probes cannot tell from the first, itself included: any of them is as good a choice."""
    noise = mean_noise(candidates, candidates.n_probes, paired=True)
    gap = candidates.coefficients - candidates.coefficients[first]
    k = gap.shape[1]
    # The normal approximation of the 95 % point of chi-squared with k degrees of freedom.
    near: NDArray[np.bool_] = np.einsum("sk,kl,sl->s", gap, np.linalg.inv(noise), gap) <= k + 1.645 * (2 * k) ** 0.5
    return near
