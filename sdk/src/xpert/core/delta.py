"""What changed between two versions of a compact catalogue, so that a phone need not fetch the whole of it again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.catalogue import COMPACT_FORMAT, FORMAT_VERSION
from xpert.core.errors import FileFormatError, MismatchError
from xpert.core.files import Tensors, read_safetensors, write_safetensors
from xpert.core.sealed import content_digest
from xpert.core.space import read_header

FORMAT = "xpert-catalogue-delta"
ROWS = ("coefficients", "ids", "kib", "strength", "residual", "scale")
SHARED = ("noise", "base", "base_unexplained")


def export_delta(full: Path, out: Path, *, changed: Sequence[int], removed: Iterable[str]) -> None:
    """Write what leads from an older version to ``full``.

    Parameters
    ----------
    full
        The compact catalogue as it is now.
    out
        File to write.
    changed
        Rows of ``full`` that are new or different.
    removed
        Names (16 hexadecimal digits) of rows that the older version may have and ``full`` has not.
    """
    arrays, metadata = read_safetensors(full)
    header = read_header(full, metadata, kind=COMPACT_FORMAT, max_version=FORMAT_VERSION)
    positions = np.array(sorted(changed), np.uint32)
    gone = np.frombuffer(bytes.fromhex("".join(sorted(removed))), np.uint8).reshape(-1, 8)
    kept = {name: array[positions] if name in ROWS else array for name, array in arrays.items()}
    value = {"format": FORMAT, "version": FORMAT_VERSION, "full": header}
    write_safetensors(out, {**kept, "positions": positions, "removed": gone}, {"xpert": json.dumps(value, sort_keys=True)})


def apply_delta(held: Path, delta: Path, out: Path) -> None:
    """Bring the compact catalogue ``held`` to the version that ``delta`` leads to; ``out`` equals the full one in every byte.

    Raises
    ------
    FileFormatError
        A file is cut, of another format or of a newer version.
    MismatchError
        The delta does not lead there from ``held``: fetch the whole catalogue.
    """
    old, metadata = read_safetensors(held)
    read_header(held, metadata, kind=COMPACT_FORMAT, max_version=FORMAT_VERSION)
    new, metadata = read_safetensors(delta)
    header = read_header(delta, metadata, kind=FORMAT, max_version=FORMAT_VERSION).get("full")
    if not isinstance(header, dict):
        raise FileFormatError(f"'{delta}' does not say what it leads to. Fetch the whole catalogue.")
    try:
        arrays = _joined(old, new)
    except (KeyError, ValueError, IndexError) as error:
        raise FileFormatError(f"'{delta}' does not fit '{held}': {error}. Fetch the whole catalogue.") from error
    if content_digest(header, arrays) != header.get("digest"):
        raise MismatchError(f"'{delta}' does not lead from '{held}' to what it promises. Fetch the whole catalogue.")
    write_safetensors(out, arrays, {"xpert": json.dumps(header, sort_keys=True)})


def _joined(old: Tensors, new: Tensors) -> dict[str, NDArray[np.generic]]:
    gone = _names(new["removed"]) | _names(new["ids"])
    left = np.array([bytes(row) not in gone for row in old["ids"]], bool)
    positions = new["positions"].astype(np.int64)
    total = int(left.sum()) + len(positions)
    if len(set(positions.tolist())) < len(positions) or (positions >= total).any():
        raise ValueError("rows stand where there is no place for them")
    fresh = np.zeros(total, bool)
    fresh[positions] = True
    return {**_rows(old, new, left, fresh), **{name: new[name] for name in SHARED}}


def _rows(old: Tensors, new: Tensors, left: NDArray[np.bool_], fresh: NDArray[np.bool_]) -> Mapping[str, NDArray[np.generic]]:
    found = {}
    for name in (name for name in ROWS if name in new):
        rows = np.zeros((len(fresh), *new[name].shape[1:]), new[name].dtype)
        rows[fresh] = new[name]
        rows[~fresh] = old[name][left]
        found[name] = rows
    return found


def _names(ids: NDArray[np.generic]) -> set[bytes]:
    return {bytes(row) for row in ids}
