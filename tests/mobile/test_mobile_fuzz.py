"""Whatever files the device's parsers are given, only an XpertError comes out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpert.core.errors import FileFormatError, XpertError
from xpert.models.encoders import minilm_folder
from xpert_mobile.checkpoint import read_checkpoint, write_checkpoint
from xpert_mobile.encoder import read_sizes
from xpert_mobile.geometry import read_geometry
from xpert_mobile.mapping import MappedArrays
from xpert_mobile.rotary import context_tables
from xpert_mobile.tokens import ChatTokenizer
from xpert_mobile.weights import MappedBase

VOCABULARY = 4112
ARRAYS = {"value.0": np.arange(6, dtype=np.float32).reshape(2, 3), "moment.0": np.ones(3)}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, -1, 1 << 40, "F16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def _geometry(folder: Path) -> object:
    geometry = read_geometry(folder)
    if geometry.head_dim < 1 << 16:  # a config may say any size; a base without the weights for it is refused next
        assert all(np.isfinite(table).all() for table in context_tables(geometry, 4))
    return geometry


def _tokens(folder: Path) -> object:
    tokens = ChatTokenizer(folder, n_tokens=VOCABULARY)
    ids = tokens.prompt_ids("Hi there, you?") + tokens.answer_ids("Well: 1 é")
    assert max(ids) < VOCABULARY
    return tokens.decode(ids)


def _base(folder: Path) -> object:
    base = MappedBase(folder, read_geometry(folder), folder / "cache")
    assert all(np.isfinite(array).all() for layer in base.layers for array in layer)
    return base


def _checkpoint(folder: Path) -> object:
    arrays, numbers = read_checkpoint(folder / "c.safetensors")
    assert (numbers, sorted(arrays)) == ({"step": 3}, sorted(ARRAYS))  # unchanged, or refused
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
    return arrays


PARSERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "config": ("llama", "config.json", _geometry),
    "tokenizer": ("llama", "tokenizer.json", _tokens),
    "tokenizer-config": ("llama", "tokenizer_config.json", _tokens),
    "template": ("llama", "chat_template.jinja", _tokens),
    "encoder-config": ("minilm", "config.json", read_sizes),
    "encoder-limits": ("minilm", "sentence_bert_config.json", read_sizes),
    "mapped": ("llama", "model.safetensors", lambda folder: MappedArrays(folder / "model.safetensors").arrays),
    "base": ("llama", "model.safetensors", _base),
    "base-config": ("llama", "config.json", _base),
    "half-base": ("qwen", "model-00001-of-00003.safetensors", _base),
    "checkpoint": ("checkpoint", "c.safetensors", _checkpoint),
}


@pytest.fixture(scope="module")
def folders(llama: Path, qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    own = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(own / "c.safetensors", ARRAYS, {"step": 3})
    return {"llama": llama, "qwen": qwen, "minilm": minilm_folder(), "checkpoint": own}


def survives(name: str, folders: dict[str, Path], change: Callable[[bytes], bytes]) -> object:
    """Parse a folder of which one file is changed; None where it is refused."""
    kind, changed, parse = PARSERS[name]
    with tempfile.TemporaryDirectory() as place:
        for file in folders[kind].iterdir():
            (Path(place) / file.name).symlink_to(file)
        (Path(place) / changed).unlink()
        (Path(place) / changed).write_bytes(change((folders[kind] / changed).read_bytes()))
        try:
            return parse(Path(place))
        except XpertError as error:
            assert str(error)
            return None


@pytest.mark.parametrize("name", PARSERS)
def test_whole_files_are_read(name: str, folders: dict[str, Path]) -> None:
    assert survives(name, folders, lambda data: data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=15, deadline=None)
def test_random_bytes(name: str, folders: dict[str, Path], data: bytes) -> None:
    survives(name, folders, lambda _: data)


@pytest.mark.parametrize("name", PARSERS)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), keep=st.floats(0.2, 1))
@settings(max_examples=40, deadline=None)
def test_mutated_bytes(name: str, folders: dict[str, Path], edits: list[tuple[float, int]], keep: float) -> None:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for place, value in edits:
            changed[int(place * min(len(data) - 1, 3000))] = value  # the header is where a change hurts most
        return bytes(changed[: int(keep * len(data))] if keep < 0.9 else changed)

    survives(name, folders, change)


@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"template"}))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_other_values(name: str, folders: dict[str, Path], data: st.DataObject) -> None:
    def change(whole: bytes) -> bytes:
        if whole[:1] == b"{":
            return json.dumps(replaced(json.loads(whole), data)).encode()
        size = 8 + int.from_bytes(whole[:8], "little")
        header = json.dumps(replaced(json.loads(whole[8:size]), data)).encode()
        return len(header).to_bytes(8, "little") + header + whole[size:]

    survives(name, folders, change)


def replaced(value: Any, data: st.DataObject) -> Any:
    """Put another value at one place of a JSON document, or leave that place out."""
    if not isinstance(value, dict | list) or not value:
        return data.draw(JSON)
    place = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    if isinstance(value, dict) and data.draw(st.integers(0, 5)) == 0:
        return {key: inner for key, inner in value.items() if key != place}
    inner = data.draw(JSON) if data.draw(st.integers(0, 2)) == 0 else replaced(value[place], data)
    value[place] = inner
    return value


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{ 1 // 0 }}", "division"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ strftime_now(3) }}", "str"),
        ("{{ raise_exception('no system') }}", "no system"),
        ("{% if false %}x{% endif %}", "into no token"),
        ("{% for", "Cannot read the tokenizer"),
    ],
)
def test_templates_that_fail_say_so(folders: dict[str, Path], tmp_path: Path, template: str, match: str) -> None:
    for file in folders["llama"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(XpertError, match=match):
        _tokens(tmp_path)


def test_a_panic_of_the_library_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    """Found by the test above: a merge whose second half is shorter than the prefix that it should begin with."""
    for file in folders["llama"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    whole = json.loads((tmp_path / "tokenizer.json").read_bytes())
    whole["model"] |= {"continuing_subword_prefix": "##", "vocab": {**whole["model"]["vocab"], "": 0}, "merges": [["", ""]]}
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(FileFormatError, match="Cannot read the tokenizer"):
        _tokens(tmp_path)


def test_a_tokenizer_with_more_tokens_than_its_model_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(XpertError, match="its model has 4 of them"):
        ChatTokenizer(folders["llama"], n_tokens=4).prompt_ids("Hi")
