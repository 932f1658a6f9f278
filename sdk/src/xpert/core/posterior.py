"""The mixture model of selection: how likely each pLLM is, and at which share of the user's texts.

The user's mean coefficients v are modelled as ``v ~ N(c + a (z - c), noise)``: z a pLLM's coefficients, c the centre of the
catalogue (mean of the base and all pLLMs), a the unknown share of the texts that are in the pLLM's style.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import Candidates
from xpert.core.space import Matrix

SHARES = np.linspace(0.2, 1.0, 17)
"""Shares of the user's texts in a pLLM's style that are summed over."""

SHARE_PRIOR = np.where(SHARES == 1, 0.9, 0.1 / (len(SHARES) - 1))
"""Most users write in one style; the rest is spread evenly."""

SHRINKAGE = 0.2
"""Share of a sphere in the noise, which is estimated from few probes; chosen on the 28 candidates of the StyleBank."""

UNPAIRED_NOISE = 1.5
"""Without the base's answers to the user's own prompts, their topics count as noise as well."""


def mean_noise(candidates: Candidates, n_texts: int, *, paired: bool) -> Matrix:
    """Return the covariance of (user's mean - pLLM's mean) when they share one style, shape (n_axes, n_axes)."""
    scale = (1 / n_texts + 1 / candidates.n_probes) * (1.0 if paired else UNPAIRED_NOISE)
    return shrunk(candidates.noise * scale)


def shrunk(noise: Matrix) -> Matrix:
    """Return a covariance that can be inverted: partly a sphere."""
    k = len(noise)
    found: Matrix = (1 - SHRINKAGE) * noise + (SHRINKAGE * np.trace(noise) / k + 1e-9) * np.eye(k)
    return found


def centre(candidates: Candidates) -> Matrix:
    """Return the mean of the base (at zero) and all pLLMs, shape (n_axes,): where a mixed crowd of texts lies."""
    if candidates.crowd is not None:
        return candidates.crowd
    mean: Matrix = candidates.coefficients.sum(0) / (len(candidates.coefficients) + 1)
    return mean


def remainders(value: Matrix, candidates: Candidates, metric: NDArray[np.floating], shares: Matrix) -> tuple[Matrix, Matrix]:
    """Measure what each pLLM leaves of a user's mean coefficients at each share, and how long it is itself.

    The squares are multiplied out: no array has pLLMs, shares and words at once, of which a million would fill the memory.

    Returns
    -------
    left
        Squared length of the remainder in ``metric``, shape (n_pllms, n_shares).
    length
        Squared length of the pLLM, seen from the centre, shape (n_pllms,).
    """
    middle = centre(candidates)
    line, gap = candidates.coefficients - middle, value - middle
    along = line @ (metric @ gap)
    length: Matrix = ((line @ metric) * line).sum(1)
    left: Matrix = float(gap @ metric @ gap) - 2 * along[:, None] * shares + length[:, None] * shares**2
    return np.maximum(left, 0.0), length


def posterior(value: Matrix, candidates: Candidates, noise: Matrix) -> tuple[Matrix, Matrix]:
    """Score every pLLM for a user's mean coefficients.

    Parameters
    ----------
    value
        Mean coefficients of the user, shape (n_axes,).
    candidates
        The catalogue.
    noise
        Covariance as of `mean_noise`.

    Returns
    -------
    score
        Log posterior up to a constant, the share summed out, shape (n_pllms,).
    share
        Posterior mean of the share of texts in each pLLM's style, shape (n_pllms,).
    """
    log = -0.5 * remainders(value, candidates, np.linalg.inv(noise), SHARES)[0] + np.log(SHARE_PRIOR)
    score = np.logaddexp.reduce(log, axis=1)
    share = np.exp(log - score[:, None]) @ SHARES
    return score, share
