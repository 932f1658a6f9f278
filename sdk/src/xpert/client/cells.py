"""The part of a large catalogue that a user needs, without the server being told which it was (docs/adr/0009-cells.md)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.client.cache import Cache
from xpert.client.catalogues import QUICK, Place, RemoteCatalogue, catalogue, in_space, warn_old
from xpert.client.exchange import Operation, Request, call, work
from xpert.client.link import Link, segment
from xpert.core.catalogue import BYTES_A_PLLM
from xpert.core.cells import CELL_BYTES, CellIndex, load_cell
from xpert.core.errors import InputError, NotFoundError, StorageError, UnavailableError, XpertError
from xpert.core.files import read_bytes, write_atomic
from xpert.core.space import Matrix

CELLS = 8
"""So many cells are asked for, the user's own and decoys: together as much as one small adapter."""

MOST_CELLS = 128
"""Places for decoys are drawn once for all: more cells than this would have some that are new every time."""

CHANCE = secrets.SystemRandom()
"""Decoys that could be guessed would be none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """An index of cells in the cache, and the places that decoys are taken from, shape (n, n_axes)."""

    index: CellIndex
    decoys: Matrix


def catalogue_for(
    link: Link,
    cache: Cache,
    base: str,
    coefficients: NDArray[np.floating],
    *,
    space: str | None,
    cells: int,
    most_whole: int | None,
    offline: bool,
) -> Operation[RemoteCatalogue]:
    """Return what selection needs for these texts: the whole catalogue where it has at most ``most_whole`` bytes, else one cell.

    Raises
    ------
    InputError
        There are no texts, a number is not finite, or ``cells`` is not 1 to 128.
    MismatchError
        The coefficients belong to another space.
    NotFoundError
        The server has no such base, or nothing of it is published.
    UnavailableError
        The server is away, and the cell was not fetched before.
    """
    coefficients = np.asarray(coefficients, np.float64)
    if not 1 <= cells <= MOST_CELLS or coefficients.ndim != 2 or not len(coefficients):
        raise InputError(
            f"Found {cells} cells and coefficients of shape {coefficients.shape}, expected 1 to {MOST_CELLS} cells, and a row "
            "of coefficients for each text. Give space.coefficients(encoder.encode(texts))."
        )
    place = Place(link, cache, segment(base), space)
    for last in (False, True):
        held, fresh = yield from _index(place, offline=offline)
        index = held.index
        if index.n_pllms * BYTES_A_PLLM <= (cells * CELL_BYTES if most_whole is None else most_whole):
            return (yield from catalogue(link, cache, base, space=space, offline=offline))
        number = int(index.nearest(coefficients.mean(0) - _like(index.base_coefficients, coefficients))[0])
        found = yield from work(partial(_kept, place, index, number, fresh=fresh))
        if found:
            return found
        try:
            body = yield from _fetch(place, index, number, asked(held, number, cells))
        except NotFoundError:
            if last:
                raise
            continue  # the catalogue has changed since its index came
        return (yield from work(partial(_keep, place, index, number, body)))
    raise AssertionError


def asked(held: Held, number: int, cells: int) -> list[int]:
    """Return the cells to ask for in the order of asking: one's own and decoys, the same ones every time."""
    n_cells = len(held.index.centres)
    others = [int(i) for i in dict.fromkeys(held.index.nearest(held.decoys)) if i != number] if len(held.decoys) else []
    rest = [i for i in range(n_cells) if i != number and i not in others]
    missing = min(cells, n_cells) - 1 - len(others)
    if missing > 0:  # two places came to lie in one cell
        others += CHANCE.sample(rest, missing)
    found = [number, *others[: cells - 1]]
    CHANCE.shuffle(found)
    return found


def _like(base: Matrix, coefficients: NDArray[np.floating]) -> Matrix:
    """Return the base's coefficients where they fit; `CellIndex.nearest` says what is wrong where they do not."""
    return base if coefficients.shape[1] == len(base) else np.zeros(coefficients.shape[1])


def _index(place: Place, *, offline: bool) -> Operation[tuple[Held, bool]]:
    """Return the current index, or the one from before where the server is away; and whether it is the current one."""
    held = yield from work(partial(_held, place))
    headers = {"Accept": "application/vnd.xpert.catalogue-cells"}
    if held:
        headers["If-None-Match"] = f'"{held.index.digest}"'
    target = f"/v1/catalogues/{place.base}/cells"
    request = Request(method="GET", target=target, params=in_space(place.space), headers=headers)
    try:
        answer = yield from call(request, attempts=QUICK if held else None)
    except (UnavailableError, StorageError) as error:
        if held is None:
            raise
        warn_old(f"catalogue of '{place.base}'", error, offline=offline)
        return held, False
    if answer.status == 304 and held:
        return held, True
    return (yield from work(partial(_keep_index, place, held, answer.body))), True


def _fetch(place: Place, index: CellIndex, number: int, numbers: list[int]) -> Operation[bytes]:
    """Ask for all of the cells, whichever is wanted, and return that one."""
    body = b""
    for each in numbers:
        target = f"/v1/catalogues/{place.base}/cells/{index.cell_name(each)}"
        headers = {"Accept": "application/vnd.xpert.catalogue-cell"}
        answer = yield from call(Request(method="GET", target=target, params=in_space(place.space), headers=headers))
        if each == number:
            body = answer.body
    return body


def _held(place: Place) -> Held | None:
    """Read the index from before; none where there is none or it is damaged."""
    try:
        facts: Mapping[str, Any] = json.loads(read_bytes(place.facts("cells")))
        index = CellIndex.load(place.folder / str(facts["file"]))
        decoys = np.array(facts["decoys"], np.float64).reshape(-1, len(index.words))
        os.utime(place.folder / str(facts["file"]))
    except (XpertError, OSError, ValueError, KeyError, TypeError):
        return None
    return Held(index=index, decoys=decoys)


def _keep_index(place: Place, held: Held | None, body: bytes) -> Held:
    """Check an index and put it in the cache; decoys that were drawn before stay."""
    folder = place.made()
    scratch = folder / ".cells.new"
    write_atomic(scratch, body)
    try:
        index = CellIndex.load(scratch)
        path = folder / f"{index.digest[:16]}.cells.xcat.safetensors"
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    decoys = _drawn(index, _known(place, len(index.words)))
    write_atomic(place.facts("cells"), json.dumps({"file": path.name, "decoys": decoys.tolist()}).encode())
    if held and held.index.digest != index.digest:
        for old in folder.glob(f"{held.index.digest[:16]}*.xcat.safetensors"):
            old.unlink(missing_ok=True)
    place.cache.evict(keep=path.name)
    return Held(index=index, decoys=decoys)


def _known(place: Place, n_words: int) -> Matrix:
    """Read the places of before, which outlive their index; none where there are none, or they are of another style space."""
    try:
        found = np.array(json.loads(read_bytes(place.facts("cells")))["decoys"], np.float64)
    except (XpertError, OSError, ValueError, KeyError, TypeError):
        found = np.empty(0)
    is_usable = found.ndim == 2 and found.shape[1] == n_words and bool(np.isfinite(found).all())
    return found if is_usable else np.empty((0, n_words))


def _drawn(index: CellIndex, before: Matrix) -> Matrix:
    """Draw the places for decoys that are missing: middles of cells, so that as many lie where there are many pLLMs and users.

    An index of few cells, as small catalogues have, gives few places. More are drawn when there are more cells; else the decoys
    beside these few would be new every time, and found out by that.
    """
    n_cells = len(index.centres)
    missing = min(MOST_CELLS, n_cells) - len(before)
    if missing <= 0:
        return before
    taken = set(index.nearest(before).tolist()) if len(before) else set()
    more = CHANCE.sample([i for i in range(n_cells) if i not in taken], missing)
    return np.concatenate([before, index.centres[more].round(3)])


def _kept(place: Place, index: CellIndex, number: int, *, fresh: bool) -> RemoteCatalogue | None:
    """Read a cell from the cache; none where it is not there or damaged."""
    path = place.folder / f"{index.cell_name(number)}.xcat.safetensors"
    try:
        candidates = load_cell(path, index, number)
        os.utime(path)
    except (XpertError, OSError):
        return None
    return RemoteCatalogue(base=place.base, version=index.digest, path=path, candidates=candidates, fresh=fresh)


def _keep(place: Place, index: CellIndex, number: int, body: bytes) -> RemoteCatalogue:
    """Check a cell and put it in the cache."""
    path = place.made() / f"{index.cell_name(number)}.xcat.safetensors"
    scratch = path.with_name(f".{path.name}.new")
    write_atomic(scratch, body)
    try:
        candidates = load_cell(scratch, index, number)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    place.cache.evict(keep=path.name)
    return RemoteCatalogue(base=place.base, version=index.digest, path=path, candidates=candidates, fresh=True)
