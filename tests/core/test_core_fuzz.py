"""Whatever bytes a parser is given, only an XpertError comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpert.core.catalogue import Catalogue, load_compact
from xpert.core.errors import XpertError
from xpert.core.explanation import Explanation
from xpert.core.merging import MergeRecipe, Source
from xpert.core.space import StyleSpace
from xpert.core.texts import read_pairs, read_texts

PARSERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "space": (StyleSpace.load, ".safetensors"),
    "entry": (Explanation.load, ".json"),
    "catalogue": (Catalogue.load, ".json"),
    "compact": (load_compact, ".safetensors"),
    "recipe": (MergeRecipe.load, ".json"),
    "jsonl": (read_texts, ".jsonl"),
    "txt": (read_texts, ".txt"),
    "csv": (read_texts, ".csv"),
    "pairs": (read_pairs, ".jsonl"),
}


@pytest.fixture(scope="module")
def valid(space: StyleSpace, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    space.save(folder / "space")
    catalogue.entries[0].save(folder / "entry")
    Catalogue.of(catalogue.entries[:2]).save(folder / "catalogue")
    catalogue.export_compact(folder / "compact")
    MergeRecipe(base_digest="b", sources=(Source(name="a", adapter_digest="d", weight=0.5),)).save(folder / "recipe")
    (folder / "jsonl").write_text('{"text": "a b c", "prompt": "p"}\n')
    (folder / "txt").write_text("a b c\n")
    (folder / "csv").write_text("text,prompt\na,b\n")
    (folder / "pairs").write_text('{"prompt": "p", "base": "b", "pllm": "l"}\n')
    return {name: (folder / name).read_bytes() for name in PARSERS}


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
