"""The layout of a store: its version, the way from the one before, what a newer one gets as an answer."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import Gated, Party, Place, keys_of

import xpert_services.store
from xpert.core.errors import FileFormatError, MismatchError, StorageError
from xpert_services.store import Draft, FolderObjects, ObjectStore, open_store
from xpert_services.store.layout import migrate, prepare, read_version

CONTENT = b"the answers"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def make_layout_0(objects: ObjectStore) -> None:
    objects.put(f"artifacts/answers/{DIGEST}", CONTENT)
    objects.put("artifacts/space/" + hashlib.sha256(b"").hexdigest(), b"")
    for name in ("one", "%c3%a4"):
        value = {"value": {"name": name}, "artifacts": {"answers": DIGEST}}
        objects.put(f"records/pllms/{name}.json", json.dumps(value).encode())


def check_layout_1(place: Place, tmp_path: Path) -> None:
    store = place.store()
    assert read_version(store.objects) == 1
    assert [record.name for record in store.records.list("pllms")] == ["ä", "one"]
    assert store.records.get("pllms", "ä").value == {"name": "%c3%a4"}
    assert store.records.get("pllms", "one").artifacts == {"answers": DIGEST}
    assert store.artifacts.stat(DIGEST).kind == "answers"
    assert store.artifacts.download(DIGEST, tmp_path / "copy").read_bytes() == CONTENT
    assert len(list(store.artifacts.list())) == 2
    assert [key for key in keys_of(store.objects) if not key.startswith("v1/")] == ["layout.json"]


def test_an_empty_place_becomes_a_store_of_this_layout(place: Place) -> None:
    assert read_version(place.objects()) is None
    store = place.store()
    assert keys_of(store.objects) == ["layout.json"]
    assert json.loads(store.objects.get("layout.json").data) == {"format": "xpert-store", "version": 1}
    assert place.store() is not store


def test_migration_from_layout_0(place: Place, tmp_path: Path) -> None:
    make_layout_0(place.objects())
    with pytest.raises(MismatchError, match="migrate=True"):
        place.store()
    assert open_store(place.url, credentials=place.credentials, migrate=True)
    check_layout_1(place, tmp_path)
    migrate(place.objects())
    check_layout_1(place, tmp_path)


@pytest.mark.slow
def test_a_migration_that_is_interrupted_anywhere_goes_on(folder_place: Place, tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "store")
    n_steps = 0
    while True:
        for key in keys_of(objects):
            objects.delete(key)
        make_layout_0(objects)
        left = iter(range(n_steps))
        try:
            migrate(Gated(objects, lambda left=left: _count_down(left)))  # type: ignore[misc]
        except StorageError:
            open_store(folder_place.url, migrate=True)
            check_layout_1(folder_place, tmp_path)
            n_steps += 1
            continue
        break
    assert n_steps > 20


def _count_down(left: Iterator[int]) -> None:
    if next(left, None) is None:
        raise StorageError("the plug was pulled")


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (f"artifacts/answers/{DIGEST}", b"other content"),
        (f"artifacts/cake/{DIGEST}", CONTENT),
        ("artifacts/answers/readme.txt", b"hello"),
        ("records/pllms/two.json", b'{"value": {}'),
        ("records/pllms/two.json", b'{"value": {}}'),
        ("records/pllms/two.json", b"[]"),
    ],
)
def test_a_damaged_store_of_layout_0_stays_as_it_is(place: Place, key: str, data: bytes) -> None:
    objects = place.objects()
    make_layout_0(objects)
    objects.put(key, data)
    old = [found for found in keys_of(objects) if not found.startswith("v1/")]
    with pytest.raises(FileFormatError, match=key):
        migrate(objects)
    assert [found for found in keys_of(objects) if not found.startswith("v1/")] == old
    assert read_version(objects) == 0


@pytest.mark.parametrize("data", [b'{"format": "xpert-store", "version": 2}', b'{"format": "other", "version": 1}', b"{"])
def test_a_newer_or_foreign_layout_is_refused(place: Place, data: bytes) -> None:
    place.objects().put("layout.json", data)
    for wanted in (False, True):
        with pytest.raises(FileFormatError, match=r"layout\.json"):
            open_store(place.url, credentials=place.credentials, migrate=wanted)
    assert keys_of(place.objects()) == ["layout.json"]


class Heedless(FolderObjects):
    """A folder that pays no heed to one of the conditions, as some S3 servers do."""

    def __init__(self, root: Path, passed_over: str) -> None:
        super().__init__(root)
        self._passed_over = passed_over

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if self._passed_over == "if_absent":
            return super().put(key, data, if_match=if_match)
        return super().put(key, data, if_absent=if_absent)


@pytest.mark.parametrize("passed_over", ["if_absent", "if_match"])
def test_a_place_that_ignores_conditions_is_refused(tmp_path: Path, passed_over: str) -> None:
    for _ in range(2):
        with pytest.raises(StorageError, match="ignores the conditions"):
            prepare(Heedless(tmp_path, passed_over))
    assert keys_of(FolderObjects(tmp_path)) == []


@pytest.mark.slow
def test_two_migrations_at_once(tmp_path: Path) -> None:
    """One process stops at each of its steps, and another one does all."""
    objects = FolderObjects(tmp_path / "store")
    n_steps, done = 0, False
    while not done:
        for key in keys_of(objects):
            objects.delete(key)
        make_layout_0(objects)
        party = Party(objects, lambda store: migrate(store.objects))
        party.step(n_steps)
        done = party.done
        migrate(objects)
        # Removed between the two: the slower one does not bring it back.
        records = open_store(tmp_path / "store").records
        records.remove(records.get("pllms", "one"))
        party.finish()
        assert party.error is None
        assert [record.name for record in records.list("pllms")] == ["ä"]
        n_steps += 1
    assert n_steps > 20


def test_a_folder_may_be_named_in_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my store"
    open_store(folder).records.create("c", "n", Draft({"x": 1}))
    for url in ("my store", folder.as_uri(), str(folder)):
        assert open_store(url).records.get("c", "n").value == {"x": 1}


def test_all_is_complete_and_importing_loads_nothing_heavy() -> None:
    assert list(xpert_services.store.__all__) == sorted(xpert_services.store.__all__)
    assert all(hasattr(xpert_services.store, name) for name in xpert_services.store.__all__)
    code = "import sys, xpert_services.store; print(sorted({'torch', 'ray', 'transformers', 'kopf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
