"""Cells of a catalogue that is too large for a phone: the format, and finding one's own (docs/adr/0009-cells.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import Candidates, Compact, hex_names
from xpert.core.errors import FileFormatError, InputError, MismatchError
from xpert.core.files import Tensors
from xpert.core.posterior import shrunk
from xpert.core.sealed import check_rows, finite, read_sealed, read_shared, seal, shared_arrays
from xpert.core.space import Matrix

INDEX_FORMAT, CELL_FORMAT = "xpert-catalogue-cells", "xpert-catalogue-cell"
FORMAT_VERSION = 1

CELL_BYTES = 65536
"""At most so many bytes a cell, all included."""

HEADER_BYTES = 2048
"""Room for a cell's headers and for where its coefficients begin."""


def cell_capacity(n_words: int) -> int:
    """Return how many pLLMs a cell holds: a byte a word, eight for the id, four for the size."""
    return (CELL_BYTES - HEADER_BYTES - 8 * n_words) // (n_words + 12)


@dataclass(frozen=True, kw_only=True, eq=False)
class CellIndex:
    """What a phone fetches first: where the cells of a catalogue are.

    Attributes
    ----------
    base_digest, space_digest, words, n_probes, noise, base_coefficients, base_unexplained
        As in `Candidates`.
    digest
        Of the index's content; its cells bear it.
    n_pllms
        How many pLLMs the catalogue has in all.
    centres
        Middles of the cells, shape (n_cells, n_axes).
    crowd
        Mean of the base and all pLLMs, shape (n_axes,).
    """

    base_digest: str
    space_digest: str
    words: tuple[str, ...]
    n_probes: int
    digest: str
    n_pllms: int
    centres: Matrix = field(repr=False)
    crowd: Matrix = field(repr=False)
    noise: Matrix = field(repr=False)
    base_coefficients: Matrix = field(repr=False)
    base_unexplained: Matrix = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> CellIndex:
        """Read an index.

        Raises
        ------
        FileFormatError
            It is cut, tampered with, of another format or of a newer version.
        """
        arrays, header = read_sealed(path, kind=INDEX_FORMAT, max_version=FORMAT_VERSION)
        try:
            shared, n_pllms = read_shared(header, arrays), header["n_pllms"]
            k = len(shared["words"])
            centres, crowd = _decoded(arrays, "centres", k), finite(arrays, "crowd")
            if not isinstance(n_pllms, int) or n_pllms < 1 or crowd.shape != (k,):
                raise ValueError("its number of pLLMs or its crowd is missing")
            return cls(n_pllms=n_pllms, centres=centres, crowd=crowd, **shared)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"'{path}' is no usable index of cells: {error}. Fetch it again.") from error

    def nearest(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Find the cell of each row of coefficients, differences to the base, shape (n, n_axes).

        Raises
        ------
        MismatchError
            The coefficients belong to another space.
        InputError
            A number is not finite.
        """
        values = np.atleast_2d(np.asarray(values, np.float64))
        if values.ndim != 2 or values.shape[1] != len(self.words):
            raise MismatchError(
                f"Found coefficients of shape {values.shape}, the catalogue has {len(self.words)} words. Use its style space."
            )
        if not np.isfinite(values).all():
            raise InputError("A text's coefficients are NaN or infinite: the encoder is broken. Check its model files.")
        gap = values[:, None] - self.centres
        found: NDArray[np.int64] = np.einsum("nck,kl,ncl->nc", gap, self._metric, gap).argmin(1)
        return found

    def cell_name(self, number: int) -> str:
        """Return what a server calls a cell: the first digits of the index's digest, and the number."""
        return f"{self.digest[:16]}-{number}"

    @cached_property
    def _metric(self) -> NDArray[np.floating]:
        return np.linalg.inv(shrunk(self.noise))


def load_cell(path: Path, index: CellIndex, number: int) -> Candidates:
    """Read a cell of ``index``; selection over it needs nothing else.

    Raises
    ------
    FileFormatError
        It is cut, tampered with, of another format or of a newer version.
    MismatchError
        It belongs to another index, or is another cell.
    """
    arrays, header = read_sealed(path, kind=CELL_FORMAT, max_version=FORMAT_VERSION)
    if (header.get("index"), header.get("number")) != (index.digest, number):
        raise MismatchError(
            f"'{path}' is cell {header.get('number')} of the index {str(header.get('index'))[:12]}, expected cell {number} of "
            f"{index.digest[:12]}. Fetch the index again, then the cell."
        )
    try:
        coefficients = _decoded(arrays, "coefficients", len(index.words))
        check_rows(arrays, coefficients, len(index.words))
        names = hex_names(arrays["ids"])
        return Candidates(
            base_digest=index.base_digest,
            space_digest=index.space_digest,
            words=index.words,
            names=names,
            coefficients=coefficients,
            noise=index.noise,
            base_coefficients=index.base_coefficients,
            base_unexplained=index.base_unexplained,
            n_probes=index.n_probes,
            adapter_bytes=arrays["kib"].astype(np.int64) * 1024,
            adapter_ids=names,
            crowd=index.crowd,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"'{path}' is no usable cell: {error}. Fetch it again.") from error


def dump_index(whole: Compact, centres: Matrix, crowd: Matrix) -> tuple[bytes, str]:
    """Write the index of a catalogue that is cut at ``centres``; returns the file's bytes and the index's digest."""
    header: dict[str, object] = {
        "format": INDEX_FORMAT,
        "version": FORMAT_VERSION,
        "base_digest": whole.base_digest,
        "space_digest": whole.space_digest,
        "words": list(whole.words),
        "n_probes": whole.n_probes,
        "n_pllms": len(whole.ids),
        "catalogue": whole.digest,
    }
    shared = shared_arrays(whole.noise, whole.base_coefficients, whole.base_unexplained)
    return seal(header, {**_encoded("centres", centres), "crowd": crowd.astype(np.float32), **shared})


def dump_cell(whole: Compact, rows: NDArray[np.integer], *, index: str, number: int) -> bytes:
    """Write the cell of an index, given by the index's digest, that holds these rows of the catalogue."""
    header: dict[str, object] = {"format": CELL_FORMAT, "version": FORMAT_VERSION, "index": index, "number": number}
    arrays = {**_encoded("coefficients", whole.coefficients[rows]), "ids": whole.ids[rows], "kib": whole.kib[rows]}
    return seal(header, arrays)[0]


def _encoded(name: str, values: Matrix) -> dict[str, NDArray[np.generic]]:
    """Write a matrix in one byte a number: steps from the middle of each column."""
    low, high = values.min(0), values.max(0)
    middle = ((low + high) / 2).astype(np.float32)
    step = np.maximum((high - low) / 254, 1e-6).astype(np.float32)
    steps = np.rint((values - middle) / step).clip(-127, 127).astype(np.int8)
    return {name: steps, "middle": middle, "step": step}


def _decoded(arrays: Tensors, name: str, k: int) -> Matrix:
    """Read what `_encoded` wrote, shape (n, k).

    Raises
    ------
    KeyError, ValueError
        A part is missing, or not what it should be.
    """
    steps, middle, step = arrays[name], finite(arrays, "middle"), finite(arrays, "step")
    if steps.dtype != np.int8 or steps.shape != (len(steps), k) or not len(steps) or middle.shape != (k,) or step.shape != (k,):
        raise ValueError(f"{name} of shape {steps.shape} for {k} words")
    values: Matrix = steps * step + middle
    return values
