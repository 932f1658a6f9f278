"""Files and safetensors of the native core beside the libraries that the SDK reads and writes them with."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_cases import BAD_FILE, NOT_FOUND, STORAGE, Native, PartError
from safetensors.numpy import load_file, save_file

ARRAYS: dict[str, Any] = {
    "layer.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    'ё 東京 🦉 " \\': np.arange(5, dtype=np.int8),
    "empty": np.zeros((0, 3), dtype=np.float64),
    "scalar": np.array(7, dtype=np.int64),
    "half": np.ones(3, dtype=np.float16),
}


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, *, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def refusal(native: Native, path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(PartError) as caught:
        native.call("safetensors.describe", path=str(path))
    assert caught.value.status == BAD_FILE
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_reads_what_the_format_s_own_library_wrote(native: Native, tmp_path: Path) -> None:
    path = tmp_path / "größe 🦉.safetensors"
    save_file(ARRAYS, path, metadata={"made by": "тест"})
    found = native.call("safetensors.describe", path=str(path))
    assert found["metadata"] == {"made by": "тест"}
    assert {name: tensor["shape"] for name, tensor in found["tensors"].items()} == {n: list(a.shape) for n, a in ARRAYS.items()}
    assert {name: tensor["sha256"] for name, tensor in found["tensors"].items()} == {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in ARRAYS.items()
    }


def test_the_format_s_own_library_reads_what_it_writes(native: Native, tmp_path: Path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(ARRAYS, path)
    native.call("safetensors.copy", path=str(path), out=str(out))
    copied = load_file(out)
    assert copied.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(copied[name], array)


@pytest.mark.parametrize("n_header", [640, 896, 1152, 1408])
def test_a_header_that_begins_as_pickles_do_is_none(native: Native, tmp_path: Path, n_header: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw(json.dumps({"a": entry(0, 4)}).encode().ljust(n_header), bytes(4)))
    assert list(native.call("safetensors.describe", path=str(path))["tensors"]) == ["a"]
    for value in ({}, [], (), 0, None, "a" * 300):
        assert "pickled" in refusal(native, path, pickle.dumps(value, protocol=path.read_bytes()[1]))
        path.write_bytes(raw(json.dumps({"a": entry(0, 4)}).encode().ljust(n_header), bytes(4)))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_refuses_a_cut_file(native: Native, tmp_path: Path, kept: float) -> None:
    save_file({"a": np.zeros(1000, np.float32)}, tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    refusal(native, tmp_path / "cut", data[: int(len(data) * kept)])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (raw({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)), "overlap"),
        (raw({"a": entry(0, 4), "b": entry(5, 8)}, bytes(8)), "gaps"),
        (raw({"a": entry(0, 4)}, bytes(5)), "left over"),
        (raw({"a": entry(0, 9)}, bytes(5)), "larger than the file"),
        (raw({"a": entry(4, 0, shape=[4])}, bytes(4)), "bytes 4 to 0"),
        (raw({"a": entry(0, 4, shape=[3])}, bytes(4)), "its shape 3"),
        (raw({"a": entry(0, 4, dtype="F33")}, bytes(4)), "type"),
        (raw({"a": entry(0, 4, shape=[-4])}, bytes(4)), "whole number"),
        (raw({"a": entry(0, 4, shape=[1.5])}, bytes(4)), "whole number"),
        (raw({"a": entry(0, 4, shape=[2**32, 2**32])}, bytes(4)), "larger than the file"),
        (raw({"a": entry(0, 4, shape=[1] * 9 + [4])}, bytes(4)), "shape"),
        (raw({"a": 3}), "type"),
        (raw({"a": {"dtype": "U8", "shape": [0]}}), "offsets"),
        (raw([1]), "no object"),
        (raw({"__metadata__": {"a": 1}}), "metadata"),
        (raw(b'{"a": '), "JSON"),
        (raw(b"[" * 100_000), "JSON"),
        (struct.pack("<Q", 2**63) + b"{}", "longer than allowed"),
        (struct.pack("<Q", 100_000_001) + b"{}", "longer than allowed"),
        (b"\x01\x02", "2 bytes"),
        (pickle.dumps({"a": 1}), "pickled"),
        (b"", "empty"),
    ],
)
def test_refuses_what_is_no_whole_file(native: Native, tmp_path: Path, data: bytes, why: str) -> None:
    assert why in refusal(native, tmp_path / "file", data)


def test_a_missing_file_is_not_found_and_a_folder_cannot_be_read(native: Native, tmp_path: Path) -> None:
    for path, status in ((tmp_path / "none", NOT_FOUND), (tmp_path, STORAGE)):
        with pytest.raises(PartError, match=str(path)) as caught:
            native.call("safetensors.describe", path=str(path))
        assert caught.value.status == status


def test_digests_are_those_of_hashlib(native: Native, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 64, 3_000_001):
        path.write_bytes(np.random.default_rng(size).bytes(size))
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert native.call("files.digest", path=str(path)) == {"of_file": expected, "of_text": expected}


def test_reads_no_more_than_the_limit(native: Native, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ünï")
    assert native.call("files.read", path=str(tmp_path / "file"), limit=5) == "ünï"
    with pytest.raises(PartError, match="has 5 bytes, at most 4") as caught:
        native.call("files.read", path=str(tmp_path / "file"), limit=4)
    assert caught.value.status == BAD_FILE


def test_a_write_that_fails_leaves_what_was_there(native: Native, tmp_path: Path) -> None:
    path = tmp_path / "file"
    native.call("files.write", path=str(path), text="before")
    with pytest.raises(PartError) as caught:
        native.call("files.write", path=str(tmp_path / "none" / "file"), text="x")
    assert caught.value.status == STORAGE
    # A process of its own, whose files may have 1000 bytes: the disk is full for it.
    small = Native(native.folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(PartError) as full:
            small.call("files.write", path=str(path), text="x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        small.close()
    assert full.value.status == STORAGE
    assert path.read_text() == "before"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
