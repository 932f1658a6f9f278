"""What every place for objects must do; each test runs on a folder and on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import MIB, keys_of, make_file

from xpert.core.errors import ConflictError, InputError, NotFoundError, StorageError
from xpert_services.store import ObjectStore
from xpert_services.store.keys import decode, encode, record_key
from xpert_services.store.objects import PART_SIZE, Source

SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_put_get_stat_scan_delete(objects: ObjectStore) -> None:
    before = objects.now()
    etag = objects.put("a/b.json", b"one")
    objects.put("a/c/d", b"")
    objects.put("e", b"three")
    assert objects.get("a/b.json").data == b"one"
    assert objects.get("a/b.json").etag == etag
    assert objects.get("a/c/d").data == b""
    found = objects.stat("e")
    assert (found.key, found.size) == ("e", 5)
    # S3 stamps objects, and tells the time, in whole seconds.
    assert before - 2 <= found.modified <= objects.now()
    assert keys_of(objects) == ["a/b.json", "a/c/d", "e"]
    assert keys_of(objects, "a/") == ["a/b.json", "a/c/d"]
    assert keys_of(objects, "none/") == []
    objects.delete("a/b.json")
    objects.delete("a/b.json")
    assert keys_of(objects, "a/") == ["a/c/d"]


def test_what_is_not_there(objects: ObjectStore) -> None:
    for call in (objects.get, objects.stat, lambda key: list(objects.read(key))):
        with pytest.raises(NotFoundError, match=r"no such object|There is no object"):
            call("not/there")


def test_a_folder_of_keys_is_no_object(objects: ObjectStore) -> None:
    objects.put("a/b", b"1")
    for call in (objects.get, objects.stat, lambda key: list(objects.read(key))):
        with pytest.raises(NotFoundError):
            call("a")
    objects.delete("a")
    objects.discard("a")
    assert keys_of(objects) == ["a/b"]
    for prefix in ("a", "../", "/", ".locks/", "a//", "a/../"):
        for scan in (objects.scan, objects.unfinished):
            with pytest.raises(InputError, match=r"is no (folder of keys|key)"):
                list(scan(prefix))


def test_conditions_hold(objects: ObjectStore) -> None:
    first = objects.put("k", b"1", if_absent=True)
    with pytest.raises(ConflictError):
        objects.put("k", b"2", if_absent=True)
    second = objects.put("k", b"2", if_match=first)
    with pytest.raises(ConflictError):
        objects.put("k", b"3", if_match=first)
    assert objects.get("k").data == b"2"
    objects.delete("k")
    with pytest.raises(ConflictError):
        objects.put("k", b"3", if_match=second)
    with pytest.raises(NotFoundError):
        objects.get("k")


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE + 5])
def test_files_of_every_number_of_parts(objects: ObjectStore, tmp_path: Path, size: int) -> None:
    file = make_file(tmp_path / "file", size=size)
    source = Source.read(file)
    assert len(source.parts) == max(1, -(-size // PART_SIZE))
    objects.put_file("folder/file", source)
    assert b"".join(objects.read("folder/file")) == file.read_bytes()
    objects.put_file("folder/file", source)
    assert keys_of(objects) == ["folder/file"]


def test_a_file_that_changes_meanwhile_is_not_stored(objects: ObjectStore, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=PART_SIZE + 1)
    source = Source.read(file)
    make_file(file, size=PART_SIZE + 1, seed=2)
    with pytest.raises(StorageError, match="changed while"):
        objects.put_file("file", source)
    assert keys_of(objects) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Check the path"):
        Source.read(tmp_path / "none")
    with pytest.raises(StorageError, match="readable"):
        Source.read(tmp_path)


@SHARED
@given(data=st.binary(max_size=200), start=st.integers(0, 220), length=st.none() | st.integers(0, 220))
def test_ranges_are_slices(objects: ObjectStore, data: bytes, start: int, length: int | None) -> None:
    objects.put("ranged", data)
    end = None if length is None else start + length
    assert b"".join(objects.read("ranged", start=start, end=end)) == data[start:end]


def test_ranges_over_several_chunks(objects: ObjectStore) -> None:
    data = bytes(range(256)) * (3 * MIB // 256)
    objects.put("long", data)
    assert b"".join(objects.read("long", start=5, end=2 * MIB + 7)) == data[5 : 2 * MIB + 7]
    with pytest.raises(InputError, match="0 <= start <= end"):
        list(objects.read("long", start=-1))
    with pytest.raises(InputError, match="0 <= start <= end"):
        list(objects.read("long", start=2, end=1))


@SHARED
@given(collection=st.text(min_size=1, max_size=20), name=st.text(min_size=1, max_size=20))
def test_any_name_becomes_a_key_that_every_place_holds(objects: ObjectStore, collection: str, name: str) -> None:
    try:
        key = record_key(collection, name)
    except InputError:
        with pytest.raises(UnicodeEncodeError):
            (collection + name).encode()
        return
    objects.put(key, key.encode())
    try:
        assert objects.get(key).data == key.encode()
        assert keys_of(objects, "v1/records/") == [key]
        assert [decode(word) for word in key.removesuffix(".json").split("/")[2:]] == [collection, name]
        assert key == key.lower()
    finally:
        objects.delete(key)


@given(first=st.text(min_size=1, max_size=8), second=st.text(min_size=1, max_size=8))
def test_two_names_never_share_a_key(first: str, second: str) -> None:
    try:
        assert (encode(first) == encode(second)) == (first == second)
    except InputError:
        with pytest.raises(UnicodeEncodeError):
            (first + second).encode()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".locks/a", "a/.b", "A", "ä", "a\n", "x" * 246])
def test_other_keys_are_refused(objects: ObjectStore, key: str) -> None:
    for call in (objects.get, objects.stat, objects.delete, lambda k: objects.put(k, b""), lambda k: list(objects.read(k))):
        with pytest.raises(InputError, match="is no key"):
            call(key)


@pytest.mark.parametrize("name", ["", "x" * 241, "\ud800"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        encode(name)
