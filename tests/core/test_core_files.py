from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from xpert.core import files
from xpert.core.errors import FileFormatError, InputError, NotFoundError, StorageError, UnsafeFileError


def test_write_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    files.write_atomic(path, b"old")

    def broken(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", broken)
    expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(error, OSError) else None):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Nothing was changed"):
        files.write_atomic(tmp_path / "file" / "under", b"x")
    with pytest.raises(StorageError), files.staged_folder(tmp_path / "file" / "under"):
        pass


def test_staged_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with files.staged_folder(tmp_path / "f") as stage:
            (stage / "config.json").write_text(content)
    assert (tmp_path / "f" / "config.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_staged_folder_keeps_the_old_one_on_failure(tmp_path: Path) -> None:
    with files.staged_folder(tmp_path / "f") as stage:
        (stage / "config.json").write_text("one")
    with pytest.raises(StorageError, match="disk"), files.staged_folder(tmp_path / "f") as stage:
        (stage / "config.json").write_text("two")
        raise OSError(errno.ENOSPC, "disk full")
    assert (tmp_path / "f" / "config.json").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_foreign_folders_and_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match=r"is a file|would be replaced"), files.staged_folder(tmp_path / name):
            pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_safetensors_round_trip_with_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = {"f": np.arange(6, dtype=np.float32).reshape(2, 3), "h": np.ones(3, np.float16), "u": np.arange(3, dtype=np.uint8)}
    files.write_safetensors(path, arrays, {"k": "v"})
    found, metadata = files.read_safetensors(path)
    assert metadata == {"k": "v"}
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_bfloat16_is_widened_without_loss(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    data = np.array([0x3F80, 0xC000], "<u2").tobytes()  # 1 and -2
    path = tmp_path / "b.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    np.testing.assert_array_equal(files.read_safetensors(path)[0]["a"], [1.0, -2.0])


def test_truncated_and_pickled_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write_safetensors(path, {"f": np.zeros(100, np.float32)})
    whole = path.read_bytes()
    for cut in (0, 4, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError, match="cut"):
            files.read_safetensors(path)
    path.write_bytes(pickle.dumps({"f": 1}))
    with pytest.raises(UnsafeFileError, match="could run code"):
        files.read_safetensors(path)
    with pytest.raises(NotFoundError, match="no file"):
        files.read_safetensors(tmp_path / "none")
    with pytest.raises(StorageError, match="readable"):
        files.read_bytes(tmp_path)


@pytest.mark.parametrize("n_header", [640, 896, 1152, 1408])
def test_a_header_that_begins_as_pickles_do_is_none(tmp_path: Path, n_header: int) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(n_header)
    path = tmp_path / "a.safetensors"
    path.write_bytes(n_header.to_bytes(8, "little") + header + bytes(4))
    assert pickle.dumps(0, protocol=path.read_bytes()[1])[:2] == path.read_bytes()[:2]
    assert files.read_safetensors(path)[0]["a"].tolist() == [0.0]
    assert files.tensor_layout(path)[0] == 8 + n_header


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_all_protocols_are_refused(tmp_path: Path, protocol: int) -> None:
    for value in ({}, [], (), 0, None, "a" * 300, b"a", {"a": [np.zeros(100)]}, Path("a"), True, 2**70, 1.5):
        with pytest.raises(UnsafeFileError):
            files.refuse_pickle(tmp_path, pickle.dumps(value, protocol=protocol)[:4])


def test_json_header_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"format": "x", "version": 2})
    assert files.read_json(path, format="x", max_version=2)["version"] == 2
    for form, version, match in (("y", 2, "not a file of format 'y'"), ("x", 1, "Upgrade xpert")):
        with pytest.raises(FileFormatError, match=match):
            files.read_json(path, format=form, max_version=version)
    for text in ("{", "[1]", '{"format": "x"}', '{"format": "x", "version": true}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(FileFormatError):
            files.read_json(path, format="x", max_version=1)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPERT_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.delenv("XPERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "xpert"
