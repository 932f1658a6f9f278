"""A difference as a sum of coefficient x axis, and what is left over (paper, section on explaining pLLMs)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import MismatchError
from xpert.core.space import Matrix, StyleSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """A difference, written in the words of a style space.

    Attributes
    ----------
    coefficients
        Weight of every axis, shape (n_axes,).
    sub_vectors
        Coefficient x axis, shape (n_axes, dim); with ``residual`` they add up to the difference.
    residual
        What no axis explains, shape (dim,), in whitened features.
    residual_share
        Squared length of the residual over that of the difference; 0 for no difference.
    strength
        Length of the explained part, in within-style standard deviations.
    """

    coefficients: NDArray[np.float64]
    sub_vectors: Matrix
    residual: NDArray[np.float64]
    residual_share: float
    strength: float


def decompose(space: StyleSpace, difference: NDArray[np.floating]) -> Decomposition:
    """Decompose a whitened difference by ridge least squares over all axes at once.

    One set of axes serves all pLLMs of a base, and no axis goes first, so that coefficients are comparable and do not
    depend on an order.

    Parameters
    ----------
    space
        The axes.
    difference
        Mean whitened features of the pLLM's answers minus those of the base's, shape (dim,).

    Raises
    ------
    MismatchError
        The difference has another shape.
    """
    difference = np.asarray(difference, np.float64)
    if difference.shape != (space.dim,):
        raise MismatchError(
            f"Cannot decompose a difference of shape {difference.shape} in '{space.name}': expected ({space.dim},). "
            "Give whitened features: space.whiten(…).mean(0)."
        )
    coefficients = difference @ space.solver
    sub_vectors = coefficients[:, None] * space.axes.astype(np.float64)
    explained = sub_vectors.sum(0)
    residual = difference - explained
    total = float(difference @ difference)
    return Decomposition(
        coefficients=coefficients,
        sub_vectors=sub_vectors,
        residual=residual,
        residual_share=float(residual @ residual) / total if total > 0 else 0.0,
        strength=float(np.linalg.norm(explained)),
    )
