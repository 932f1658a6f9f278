"""Whatever bytes the parsers outside of the core are given, only an XpertError comes out."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpert.bench.selection import read_parallel
from xpert.bench.starter import read_users
from xpert.core.errors import XpertError
from xpert.core.exemplars import read_exemplars
from xpert.core.texts import read_texts
from xpert.models.adapters import read_adapter
from xpert.models.digest import base_digest
from xpert.models.names import resolve

POETIC = resolve("starter:poetic")


def _adapter_weights(path: Path) -> object:
    folder = path.parent
    path.rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_bytes((POETIC / "adapter_config.json").read_bytes())
    return read_adapter(folder)


def _adapter_config(path: Path) -> object:
    folder = path.parent
    path.rename(folder / "adapter_config.json")
    (folder / "adapter_model.safetensors").write_bytes((POETIC / "adapter_model.safetensors").read_bytes())
    return read_adapter(folder)


def _base_weights(path: Path) -> object:
    (path.parent / "config.json").write_text("{}")
    return base_digest(path.parent)


def _parquet() -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table({"text": ["a b c", "d"], "prompt": ["p", None]}), stream)
    return stream.getvalue()


def _lines(*rows: dict[str, object]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


PARALLEL = _lines(*({"style": s, "context": "", "input": f"q{i}", "response": f"r{s}{i}"} for s in range(3) for i in range(3)))

PARSERS: dict[str, tuple[Callable[[Path], object], str, bytes]] = {
    "adapter-weights": (_adapter_weights, "x.safetensors", (POETIC / "adapter_model.safetensors").read_bytes()),
    "adapter-config": (_adapter_config, "x.json", (POETIC / "adapter_config.json").read_bytes()),
    "base-weights": (_base_weights, "model.safetensors", (POETIC / "adapter_model.safetensors").read_bytes()),
    "parquet": (read_texts, "x.parquet", _parquet()),
    "parallel": (read_parallel, "x.jsonl", PARALLEL),
    "parallel-gz": (read_parallel, "x.jsonl.gz", gzip.compress(PARALLEL)),
    "users": (read_users, "x.jsonl", _lines({"user": "u", "text": "t", "prompt": "p"})),
    "exemplars": (read_exemplars, "x.jsonl", _lines({"id": "1", "prompt": "p", "style": "neutral", "text": "t"})),
}


def survives(name: str, data: bytes) -> None:
    parse, file, _ = PARSERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(data)
        try:
            parse(path)
        except XpertError as error:
            assert str(error)


@pytest.mark.parametrize("name", PARSERS)
def test_whole_files_are_read(name: str) -> None:
    parse, file, data = PARSERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(data)
        assert parse(path)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_random_bytes(name: str, data: bytes) -> None:
    survives(name, data)


@pytest.mark.parametrize("name", PARSERS)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), keep=st.floats(0.2, 1))
@settings(max_examples=40, deadline=None)
def test_mutated_files(name: str, edits: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(PARSERS[name][2])
    for place, value in edits:
        data[min(int(place * len(data)), len(data) - 1)] = value
    survives(name, bytes(data[: max(1, int(keep * len(data)))] if keep < 0.9 else data))
