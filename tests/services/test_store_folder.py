"""What only a folder has: processes killed between any two steps, listings beside renames, folders that cannot be read."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import die_everywhere, keys_of, make_file

from xpert.core.errors import StorageError
from xpert_services.store import Draft, FolderObjects, open_store
from xpert_services.store.folder import LISTING, LOCKS

SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.slow
def test_a_process_killed_between_any_two_steps_leaves_a_whole_store(tmp_path: Path) -> None:
    files = [make_file(tmp_path / name, size=3000, seed=seed) for seed, name in enumerate(("one", "two"))]
    process = SPAWN.Process(target=die_everywhere, args=(tmp_path / "store", files))
    process.start()
    process.join()
    assert process.exitcode == 0


def can_lock(folder: Path, kind: int) -> bool:
    with (folder / LOCKS / LISTING).open("rb") as stream:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_nothing_is_renamed_while_names_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems do not show a replaced name to who reads the folder just then, which would make it garbage."""
    objects = FolderObjects(tmp_path)
    objects.put("a", b"1")
    seen = []

    def noting(name: str, kind: int, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            seen.append((name, can_lock(tmp_path, kind)))
            return function(*args, **options)

        return call

    monkeypatch.setattr(Path, "replace", noting("rename", fcntl.LOCK_EX, Path.replace))
    monkeypatch.setattr(os, "walk", noting("list", fcntl.LOCK_SH, os.walk))
    objects.put("a", b"2")
    assert keys_of(objects) == ["a"]
    assert seen == [("rename", False), ("list", False)]
    assert can_lock(tmp_path, fcntl.LOCK_EX)


def test_records_that_cannot_be_listed_make_no_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "store")
    digest = store.artifacts.put(make_file(tmp_path / "file", size=9), kind="entry").digest
    store.records.create("c", "n", Draft({}, {"entry": digest}))
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("records/c"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(StorageError, match=r"Cannot list 'v1/records/'.*Permission denied"):
        store.collect_garbage()
    with pytest.raises(StorageError, match="Check the disk and its rights"):
        list(store.records.list("c"))


def test_a_store_that_is_only_looked_for_is_not_made(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "none")
    assert keys_of(objects) == list(objects.unfinished("")) == []
    objects.delete("a/b")
    objects.discard("a/b")
    assert not (tmp_path / "none").exists()
