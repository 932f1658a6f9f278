"""What is found to be wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is not as it should be.

    Attributes
    ----------
    kind
        Which sort, a stable word.
    where
        The record or artifact.
    told
        What was found, what was expected, what to do.
    """

    kind: str
    where: str
    told: str
