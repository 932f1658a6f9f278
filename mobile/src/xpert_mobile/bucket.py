"""The static sizes of a program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The static sizes of a program.

    Attributes
    ----------
    rank
        Of the adapter.
    batch, length
        Texts and tokens a run.
    precision
        Of the base's projections, one of `PRECISIONS`.
    vocabulary_block
        Rows of the output layer a run of the head.
    prefix
        Places of the learned prefix that a training program trains instead of an adapter; 0: none.
    transposed
        Whether programs take a transposed copy of every projection's weight too.
    """

    rank: int
    batch: int
    length: int
    vocabulary_block: int
    precision: str = "float32"
    prefix: int = 0
    transposed: bool = False
