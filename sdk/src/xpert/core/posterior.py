"""The mixture model of selection: how likely each pLLM is, and at which share of the user's texts.

The user's mean coefficients v are modelled as ``v ~ N(c + a (z - c), noise)``: z a pLLM's coefficients, c the centre of the
catalogue (mean of the base and all pLLMs), a the unknown share of the texts that are in the pLLM's style.
"""

from __future__ import annotations

import numpy as np

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
    noise = candidates.noise * (1 / n_texts + 1 / candidates.n_probes) * (1.0 if paired else UNPAIRED_NOISE)
    k = len(noise)
    shrunk: Matrix = (1 - SHRINKAGE) * noise + (SHRINKAGE * np.trace(noise) / k + 1e-9) * np.eye(k)
    return shrunk


def centre(candidates: Candidates) -> Matrix:
    """Return the mean of the base (at zero) and all pLLMs, shape (n_axes,): where a mixed crowd of texts lies."""
    mean: Matrix = candidates.coefficients.sum(0) / (len(candidates.coefficients) + 1)
    return mean


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
    middle = centre(candidates)
    lines = (candidates.coefficients - middle)[:, None] * SHARES[None, :, None]
    gap = (value - middle) - lines
    log = -0.5 * np.einsum("sak,kl,sal->sa", gap, np.linalg.inv(noise), gap) + np.log(SHARE_PRIOR)
    score = np.logaddexp.reduce(log, axis=1)
    share = np.exp(log - score[:, None]) @ SHARES
    return score, share
