"""Whatever bytes a parser is given, only an XpertError comes out."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells_cases import evenly, whole_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpert.core.catalogue import Catalogue, load_compact
from xpert.core.cells import CellIndex, load_cell
from xpert.core.cutting import cut
from xpert.core.errors import XpertError
from xpert.core.explanation import Explanation
from xpert.core.files import read_safetensors
from xpert.core.merging import MergeRecipe, Source
from xpert.core.sealed import seal
from xpert.core.selection import select
from xpert.core.space import StyleSpace
from xpert.core.texts import read_pairs, read_texts

CELLS = cut(whole_of(120), evenly, capacity=40)


@functools.cache
def cells_index() -> CellIndex:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.write_bytes(CELLS.index)
        return CellIndex.load(path)


def read_index(path: Path) -> None:
    """Read an index and look for a cell as a phone does."""
    index = CellIndex.load(path)
    index.nearest(np.zeros((2, len(index.words))))


def read_cell(path: Path) -> None:
    """Read a cell and choose from it as a phone does."""
    select(np.full((2, 24), 0.1), load_cell(path, cells_index(), 0))


PARSERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "space": (StyleSpace.load, ".safetensors"),
    "entry": (Explanation.load, ".json"),
    "catalogue": (Catalogue.load, ".json"),
    "compact": (load_compact, ".safetensors"),
    "cells": (read_index, ".safetensors"),
    "cell": (read_cell, ".safetensors"),
    "recipe": (MergeRecipe.load, ".json"),
    "jsonl": (read_texts, ".jsonl"),
    "txt": (read_texts, ".txt"),
    "csv": (read_texts, ".csv"),
    "pairs": (read_pairs, ".jsonl"),
}


class Files(dict[str, bytes]):
    """Files by name, which are not written out where a test fails."""

    def __repr__(self) -> str:
        return f"Files({sorted(self)})"


@pytest.fixture(scope="module")
def valid(space: StyleSpace, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    space.save(folder / "space")
    catalogue.entries[0].save(folder / "entry")
    Catalogue.of(catalogue.entries[:2]).save(folder / "catalogue")
    catalogue.export_compact(folder / "compact")
    (folder / "cells").write_bytes(CELLS.index)
    (folder / "cell").write_bytes(CELLS.cell(0))
    MergeRecipe(base_digest="b", sources=(Source(name="a", adapter_digest="d", weight=0.5),)).save(folder / "recipe")
    (folder / "jsonl").write_text('{"text": "a b c", "prompt": "p"}\n')
    (folder / "txt").write_text("a b c\n")
    (folder / "csv").write_text("text,prompt\na,b\n")
    (folder / "pairs").write_text('{"prompt": "p", "base": "b", "pllm": "l"}\n')
    return Files({name: (folder / name).read_bytes() for name in PARSERS})


def survives(parse: Callable[[Path], object], suffix: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        path.write_bytes(data)
        try:
            parse(path)
        except XpertError as error:
            assert str(error)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_random_bytes(name: str, data: bytes) -> None:
    survives(*PARSERS[name], data)


@pytest.mark.parametrize("name", PARSERS)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), keep=st.floats(0.2, 1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files(name: str, valid: dict[str, bytes], edits: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(valid[name])
    head = min(len(data), 4000)  # the header is where a change hurts most
    for place, value in edits:
        data[min(int(place * head), len(data) - 1)] = value
    survives(*PARSERS[name], bytes(data[: max(1, int(keep * len(data)))] if keep < 0.9 else data))


KINDS = tuple("b B h i I q Q e f d ?".split())
VALUES = (0, 1, -1, 127, 1e-8, 3e4, 3e38, 1e308, np.nan, np.inf, -np.inf)
JSON = (
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
)
CHANGE = st.fixed_dictionaries(
    {
        "kind": st.none() | st.sampled_from(KINDS),
        "shape": st.none() | st.lists(st.integers(0, 50), max_size=3),
        "value": st.sampled_from(VALUES),
        "place": st.floats(0, 1),
        "only": st.booleans(),
    }
)


def changed(array: np.ndarray[Any, Any], change: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Make an array of another kind, another shape, or with another number in it from a place on, or there only."""
    found = np.resize(array, array.shape if change["shape"] is None else change["shape"]).astype(np.float64)
    start = int(change["place"] * max(found.size - 1, 0))
    found.flat[start : start + 1 if change["only"] else None] = change["value"]
    with np.errstate(invalid="ignore", over="ignore"):
        return found.astype(change["kind"] or array.dtype)


@pytest.mark.parametrize("name", ["cells", "cell", "compact"])
@given(
    changes=st.lists(st.tuples(st.integers(0, 9), CHANGE), max_size=2),
    said=st.none() | st.tuples(st.integers(0, 9), JSON),
    missing=st.none() | st.integers(0, 9),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_that_are_sealed_and_say_something_else(
    name: str,
    valid: dict[str, bytes],
    changes: list[tuple[int, dict[str, Any]]],
    said: tuple[int, Any] | None,
    missing: int | None,
) -> None:
    """A server may seal whatever it likes: the digest stands in the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "valid"
        path.write_bytes(valid[name])
        arrays, metadata = read_safetensors(path)
    header, names = json.loads(metadata["xpert"]), sorted(arrays)
    for which, change in changes:
        key = names[which % len(names)]
        arrays[key] = changed(arrays[key], change)
    if said:
        header[sorted(header)[said[0] % len(header)]] = said[1]
    if missing is not None:
        del arrays[names[missing % len(names)]]
    survives(*PARSERS[name], seal(header, arrays)[0])
