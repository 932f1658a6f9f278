"""Where the labels of a scatter plot go, so that none covers a point or another label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]

GAP = 9.0
"""Distance of a label from its point, in points (1/72 inch)."""

MARK = 6.0
"""Half the width of a mark that no label may cover, in points."""

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def place_labels(points: NDArray[np.float64], sizes: NDArray[np.float64], frame: tuple[float, float]) -> NDArray[np.float64]:
    """Place one label a point, one after another, each where it covers least.

    Parameters
    ----------
    points
        Where the marks are, in points from the lower left corner of the frame, shape (n, 2).
    sizes
        Width and height of the labels, in points, shape (n, 2).
    frame
        Width and height that no label may leave, in points.

    Returns
    -------
    NDArray
        Lower left corners of the labels, relative to their marks, shape (n, 2).
    """
    taken: list[Box] = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    offsets = np.zeros_like(points)
    for i, ((x, y), (width, height)) in enumerate(zip(points, sizes, strict=True)):
        best = float("inf")
        for reach in (1.0, 2.0):
            for across, up in DIRECTIONS:
                left = x + across * reach * GAP - width * (1 - across) / 2
                low = y + up * reach * GAP - height * (1 - up) / 2
                box = (left, low, left + width, low + height)
                cost = sum(_overlap(box, other) for other in taken) + _outside(box, frame) + reach
                if cost < best:
                    best, offsets[i] = cost, (left - x, low - y)
        left, low = points[i] + offsets[i]
        taken.append((left, low, left + width, low + height))
    return offsets


def _overlap(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _outside(box: Box, frame: tuple[float, float]) -> float:
    over = max(-box[0], 0.0) + max(-box[1], 0.0) + max(box[2] - frame[0], 0.0) + max(box[3] - frame[1], 0.0)
    return 100.0 * over
