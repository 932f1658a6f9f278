"""The host's part of the loss: blocks of the output layer put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xpert_mobile.engine import Program
from xpert_mobile.geometry import MASKED
from xpert_mobile.weights import BaseWeights

Array = NDArray[np.float32]


class Head:
    """Loss of a batch's final hidden states, and its gradient.

    Parameters
    ----------
    program
        A training program, or one that answers.
    base
        The weights.
    block
        Rows of the output layer that the program takes a run.
    """

    def __init__(self, program: Program, base: BaseWeights, *, block: int) -> None:
        self.program, self.base, self.block = program, base, block

    def loss(self, h: Array, target: NDArray[np.int64], weight: Array) -> tuple[float, Array]:
        """Return the weighted loss of h (batch, length, hidden) and its gradient; target and weight are (batch, length)."""
        column = (target.size, 1)
        sums = [
            np.full(column, MASKED, np.float32),
            np.zeros(column, np.float32),
            np.zeros((target.size, h.shape[-1]), np.float32),
        ]
        for rows, bias in self._blocks():
            sums = self.program.run("pull", [h, self.base.norm, rows, bias, *sums])
        own = self.base.output[target.reshape(-1)]
        value, dh = self.program.run("loss", [h, self.base.norm, own, weight.reshape(column), *sums])
        return float(value), dh

    def logits(self, h: Array) -> Array:
        """Return the logits (vocabulary,) after hidden states h (1, 1, hidden); of a program that answers."""
        parts = [self.program.run("logits", [h, self.base.norm, rows])[0][0] for rows, _ in self._blocks()]
        joined: Array = np.concatenate(parts)[: len(self.base.output)]
        return joined

    def _blocks(self) -> Iterator[tuple[Array, Array]]:
        """Yield every block's rows and bias; the last one is filled up with rows that no token has."""
        for start in range(0, len(self.base.output), self.block):
            rows = self.base.output[start : start + self.block]
            n = len(rows)
            bias = np.zeros(self.block, np.float32)
            if n < self.block:
                rows = np.concatenate([rows, np.zeros((self.block - n, rows.shape[1]), np.float32)])
                bias[n:] = MASKED
            yield rows, bias
