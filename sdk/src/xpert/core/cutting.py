"""Cutting a catalogue into cells that are all equally large and overlap (docs/adr/0009-cells.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import Compact
from xpert.core.cells import cell_capacity, dump_cell, dump_index
from xpert.core.errors import NotFoundError
from xpert.core.posterior import shrunk
from xpert.core.space import Matrix

Points = NDArray[np.float32]
"""Coefficients whitened by the noise, shape (n, n_axes): single precision, as a million of them stay in memory."""

Centring = Callable[[Points, int], Points]
"""``centring(points, n)`` finds n centres of the points."""

Rows = NDArray[np.int32]

OVERLAP = 4
"""So many cells a pLLM is in, on average."""

NEIGHBOURS = 32
"""A cell is filled from the pLLMs of so many cells around it: several times as many as find room."""

CHUNK = 1 << 22
"""Distances that are in memory at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """A catalogue, cut.

    Attributes
    ----------
    whole
        The catalogue.
    members
        Rows of the catalogue, cell by cell.
    index, digest
        The index's file and the digest of its content.
    """

    whole: Compact = field(repr=False)
    members: tuple[Rows, ...] = field(repr=False)
    index: bytes = field(repr=False)
    digest: str

    def named(self, name: str) -> bytes:
        """Return the file of a cell by its name, see `CellIndex.cell_name`.

        Raises
        ------
        NotFoundError
            There is no such cell, or it is one of another index.
        """
        index, _, number = name.partition("-")
        if index != self.digest[:16] or not number.isdecimal():
            raise NotFoundError(f"There is no cell '{name}' any more: the catalogue has changed. Fetch the index again.")
        return self.cell(int(number))

    def cell(self, number: int) -> bytes:
        """Return the file of a cell.

        Raises
        ------
        NotFoundError
            There is no such cell.
        """
        if not 0 <= number < len(self.members):
            raise NotFoundError(f"There is no cell {number}: there are {len(self.members)}, from 0 on. Fetch the index again.")
        return dump_cell(self.whole, self.members[number], index=self.digest, number=number)


def cut(whole: Compact, centring: Centring, *, capacity: int | None = None) -> Cells:
    """Cut a catalogue into cells.

    Parameters
    ----------
    whole
        The catalogue.
    centring
        Finds centres; those of too many pLLMs are halved afterwards, those of none left out.
    capacity
        pLLMs a cell holds; by default what fits into its bytes.
    """
    capacity = capacity or cell_capacity(len(whole.words))
    crowd = whole.coefficients.sum(0) / (len(whole.ids) + 1)
    root = np.linalg.cholesky(np.linalg.inv(shrunk(whole.noise)))
    points = _whitened(whole.coefficients, crowd, root)
    if len(points) <= capacity:
        members = [np.arange(len(points), dtype=np.int32)]
        centres = points.mean(0, keepdims=True)
    else:
        found = centring(points, -(-OVERLAP * len(points) // capacity)).astype(np.float32)
        own = [part for rows in _owned(points, found) for part in _halved(points, rows, capacity)]
        centres = np.array([points[rows].mean(0) for rows in own])
        members = list(_filled(points, own, centres, capacity))
    index, digest = dump_index(whole, _coefficients(centres, root, crowd), crowd)
    return Cells(whole=whole, members=tuple(members), index=index, digest=digest)


def _whitened(coefficients: Matrix, crowd: Matrix, root: Matrix) -> Points:
    """Return coefficients in the metric of selection, made in parts: none of them is there twice in double precision."""
    points = np.empty(coefficients.shape, np.float32)
    step = max(CHUNK // coefficients.shape[1], 1)
    for start in range(0, len(points), step):
        points[start : start + step] = (coefficients[start : start + step] - crowd) @ root
    return points


def _coefficients(centres: Points, root: Matrix, crowd: Matrix) -> Matrix:
    back: Matrix = np.linalg.solve(root.T, centres.T.astype(np.float64)).T + crowd
    return back


def _owned(points: Points, centres: Points) -> list[Rows]:
    """Give each point to its nearest centre; returns the rows of the centres that have some."""
    owner = np.empty(len(points), np.int32)
    step = max(CHUNK // len(centres), 1)
    half = (centres**2).sum(1) / 2
    for start in range(0, len(points), step):
        owner[start : start + step] = (half - points[start : start + step] @ centres.T).argmin(1)
    order = np.argsort(owner, kind="stable").astype(np.int32)
    bounds = np.flatnonzero(np.diff(owner[order])) + 1
    return np.split(order, bounds)


def _halved(points: Points, rows: Rows, capacity: int) -> Iterator[Rows]:
    """Halve rows along their longest direction until each part fits."""
    if len(rows) <= capacity:
        yield rows
        return
    here = points[rows] - points[rows].mean(0)
    direction = np.linalg.eigh(here.T @ here)[1][:, -1]
    order = rows[np.argsort(here @ direction, kind="stable")]
    for part in np.array_split(order, 2):
        yield from _halved(points, part, capacity)


def _filled(points: Points, own: list[Rows], centres: Points, capacity: int) -> Iterator[Rows]:
    """Add to each cell the nearest pLLMs of the cells around it until it is full."""
    half = (centres**2).sum(1) / 2
    for me, (rows, centre) in enumerate(zip(own, centres, strict=True)):
        near = np.argsort(half - centres @ centre, kind="stable")[: NEIGHBOURS + 1]
        others = np.concatenate([own[i] for i in near if i != me])
        room = capacity - len(rows)
        if room < len(others):
            distance = ((points[others] - centre) ** 2).sum(1)
            others = others[np.argpartition(distance, room)[:room]]
        yield np.sort(np.concatenate([rows, others]).astype(np.int32))
