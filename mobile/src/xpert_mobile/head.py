"""The host's part of the loss: one run of the whole output layer, or its blocks put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xpert_mobile.engine import Program
from xpert_mobile.geometry import MASKED
from xpert_mobile.weights import BaseWeights

Array = NDArray[np.float32]


class Head:
    """Loss of one text's final hidden states, and its gradient.

    Parameters
    ----------
    program
        A training program.
    base
        The weights.
    block
        Rows of the output layer that the program takes a run; None: all of them.
    """

    def __init__(self, program: Program, base: BaseWeights, *, block: int | None) -> None:
        self.program, self.base, self.block = program, base, block

    def loss(self, h: Array, target: NDArray[np.int64], weight: Array) -> tuple[float, Array]:
        """Return the weighted loss of h (1, length, hidden) and its gradient; target and weight are (length, 1)."""
        if self.block is None:
            whole, dh = self.program.run("loss", [h, self.base.norm, self.base.output, target, weight])
            return float(whole), dh
        maximum = np.full(target.shape, -np.inf)
        total, picked = np.zeros(target.shape), np.zeros(target.shape)
        for block in self._blocks(target):
            found, part, own = self.program.run("scores", [h, self.base.norm, *block])
            above = np.maximum(maximum, found)
            total = total * np.exp(maximum - above) + part * np.exp(found - above)
            maximum = above
            picked += own
        log_total = maximum + np.log(total)
        value = float((weight * (log_total - picked)).sum())
        dn = np.zeros_like(h)
        rest = [weight, log_total.astype(np.float32)]
        for block in self._blocks(target):
            dn += self.program.run("pull", [h, self.base.norm, *block, *rest])[0]
        return value, self.program.run("through", [h, self.base.norm, dn])[0]

    def logits(self, h: Array) -> Array:
        """Return the logits (vocabulary,) after hidden states h (1, 1, hidden); of a generation program."""
        if self.block is None:
            row: Array = self.program.run("logits", [h, self.base.norm, self.base.output])[0][0]
            return row
        target = np.zeros((1, 1), np.int64)
        parts = [self.program.run("logits", [h, self.base.norm, rows])[0][0] for rows, *_ in self._blocks(target)]
        joined: Array = np.concatenate(parts)[: len(self.base.output)]
        return joined

    def _blocks(self, target: NDArray[np.int64]) -> Iterator[tuple[Array, Array, NDArray[np.int64], Array]]:
        """Yield every block's rows, bias, the targets' places in it, and whether they are in it."""
        size = self.block or 1
        for start in range(0, len(self.base.output), size):
            rows = self.base.output[start : start + size]
            n = len(rows)
            bias = np.zeros(size, np.float32)
            if n < size:
                rows = np.concatenate([rows, np.zeros((size - n, rows.shape[1]), np.float32)])
                bias[n:] = MASKED
            inside = (target >= start) & (target < start + n)
            yield rows, bias, np.where(inside, target - start, 0), inside.astype(np.float32)
