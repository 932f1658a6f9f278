"""Artifacts: stored once, whole or not at all, verified at both ends, resumed after an interruption."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import MIB, Place, Wire, download_limited, download_once, keys_of, make_file, put_limited, put_once

from xpert.core.errors import FileFormatError, InputError, NotFoundError, StorageError, UnsafeFileError
from xpert_services.store import Artifact, FolderObjects, Store, open_store
from xpert_services.store.cards import read_card
from xpert_services.store.keys import BLOBS, CARDS, card_key
from xpert_services.store.objects import PART_SIZE

SPAWN = multiprocessing.get_context("spawn")
LARGE = 6 * PART_SIZE + 3


def blob_of(store: Store, digest: str) -> str:
    found = read_card(store.objects, digest)
    assert found
    return found[0].blob


def test_the_address_is_the_digest_and_content_is_stored_once(store: Store, tmp_path: Path) -> None:
    file = make_file(tmp_path / "answers.json", size=1000)
    found = store.artifacts.put(file, kind="answers")
    assert found == Artifact(hashlib.sha256(file.read_bytes()).hexdigest(), "answers", 1000)
    assert store.artifacts.put(file, kind="answers") == found
    assert store.artifacts.stat(found.digest) == found
    assert list(store.artifacts.list()) == [found]
    assert len(keys_of(store.objects, BLOBS)) == 1
    copy = store.artifacts.download(found.digest, tmp_path / "deep" / "copy")
    assert copy.read_bytes() == file.read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert store.artifacts.check(found.digest) == found


def test_content_of_another_kind_stays_of_the_first(store: Store, tmp_path: Path) -> None:
    file = make_file(tmp_path / "answers.json", size=10)
    first = store.artifacts.put(file, kind="answers")
    assert store.artifacts.put(file, kind="entry") == first == store.artifacts.stat(first.digest)


def test_an_adapter_folder_comes_back_whole(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    make_file(folder / "adapter_model.safetensors", size=5000)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "README.md").write_text("not part of it")
    files = {name: artifact.digest for name, artifact in store.artifacts.put_folder(folder).items()}
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors"]
    again = store.artifacts.download_folder(files, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {name: (folder / name).read_bytes() for name in files}
    assert not list(tmp_path.glob(".again*"))
    with pytest.raises(NotFoundError):
        store.artifacts.download_folder({**files, "more.json": "0" * 64}, again)
    assert sorted(path.name for path in again.iterdir()) == sorted(files)


def test_refusals(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not in the store"):
        store.artifacts.download("0" * 64, tmp_path / "none")
    with pytest.raises(InputError, match="is no digest"):
        store.artifacts.stat("../layout")
    for name in ("../evil", "..", ".", "", "a/b", "a\\b", "/a", "a\0", ".hidden"):
        with pytest.raises(InputError, match="plain file names"):
            store.artifacts.download_folder({name: "0" * 64}, tmp_path / "folder")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to.txt").write_text("dear")
    with pytest.raises(InputError, match="would be replaced"):
        store.artifacts.download_folder({"a.json": "0" * 64}, tmp_path / "letters")
    with pytest.raises(InputError, match=r"no \.safetensors"):
        store.artifacts.put_folder(tmp_path)
    with pytest.raises(InputError, match="expected one of adapter"):
        store.artifacts.put(make_file(tmp_path / "file", size=3), kind="cake")  # type: ignore[arg-type]
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(UnsafeFileError):
        store.artifacts.put(tmp_path / "model.bin", kind="adapter")


@pytest.mark.parametrize("size", [100, 2 * MIB])
@pytest.mark.parametrize("how", ["tampered", "truncated", "extended"])
def test_damage_in_the_store_is_refused_and_can_be_repaired(store: Store, tmp_path: Path, how: str, size: int) -> None:
    file = make_file(tmp_path / "file", size=size)
    digest = store.artifacts.put(file, kind="entry").digest
    good = file.read_bytes()
    bad = {"tampered": good[:-1] + bytes([good[-1] ^ 1]), "truncated": good[:-1], "extended": good + b"x"}[how]
    store.objects.put(blob_of(store, digest), bad)
    if how != "extended":  # what comes after the known size is not even read
        with pytest.raises(FileFormatError, match="damaged in the store"):
            store.artifacts.download(digest, tmp_path / "copies" / "copy")
        assert list((tmp_path / "copies").iterdir()) == []
    with pytest.raises(FileFormatError, match="is damaged"):
        store.artifacts.check(digest)
    with pytest.raises(FileFormatError, match="was removed"):
        store.artifacts.check(digest, remove_damaged=True)
    with pytest.raises(NotFoundError):
        store.artifacts.stat(digest)
    store.artifacts.put(file, kind="entry")
    assert store.artifacts.download(digest, tmp_path / "copies" / "copy").read_bytes() == good
    assert len(keys_of(store.objects, BLOBS)) == 1


def test_what_an_interrupted_download_left_may_be_wrong(store: Store, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=3000)
    digest = store.artifacts.put(file, kind="space").digest
    for left in (b"wrong bytes", b"x" * 3000, b"x" * 4000):
        (tmp_path / f".copy.{digest[:16]}.partial").write_bytes(left)
        (tmp_path / "copy").write_bytes(b"an older file")
        assert store.artifacts.download(digest, tmp_path / "copy").read_bytes() == file.read_bytes()


def test_a_damaged_card_is_refused(store: Store, tmp_path: Path) -> None:
    digest = store.artifacts.put(make_file(tmp_path / "file", size=30), kind="space").digest
    whole = store.objects.get(card_key(digest)).data
    for bad in (
        whole[:-9],
        b"{}",
        whole.replace(b'"size": 30', b'"size": "30"'),
        whole.replace(b'"version": 1', b'"version": 2'),
    ):
        store.objects.put(card_key(digest), bad)
        with pytest.raises(FileFormatError):
            store.artifacts.stat(digest)


@pytest.mark.slow
def test_many_processes_store_and_fetch_one_file(place: Place, tmp_path: Path) -> None:
    store = place.store()
    file = make_file(tmp_path / "file", size=2 * PART_SIZE + 1)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    _run_all(SPAWN.Process(target=put_once, args=(place.url, place.user, place.password, file)) for _ in range(4))
    assert len(keys_of(store.objects, BLOBS)) == len(keys_of(store.objects, CARDS)) == 1
    copy = tmp_path / "copies" / "copy"
    arguments = (place.url, place.user, place.password, digest, copy)
    _run_all(SPAWN.Process(target=download_once, args=arguments) for _ in range(4))
    assert copy.read_bytes() == file.read_bytes()
    assert list(copy.parent.iterdir()) == [copy]


def _run_all(processes: Iterator[SPAWN.Process]) -> None:  # type: ignore[name-defined]
    started = list(processes)
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0


@pytest.mark.slow
def test_s3_upload_of_a_killed_process_goes_on(s3_place: Place, wire: Wire, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=LARGE)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    behind = s3_place.at(wire.url)
    process = SPAWN.Process(target=put_once, args=(behind.url, behind.user, behind.password, file))
    # Beyond three parts at a time, so that one of them has been answered.
    wire.cut_up, wire.on_cut = 4 * PART_SIZE, process.kill
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = s3_place.store()
    assert keys_of(store.objects, BLOBS) == []
    assert list(store.artifacts.list()) == []
    with pytest.raises(NotFoundError):
        store.artifacts.stat(digest)
    wire.mend()
    behind.store().artifacts.put(file, kind="answers")
    assert 0 < wire.up < LARGE - PART_SIZE + MIB
    assert store.artifacts.download(digest, tmp_path / "copy").read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_s3_download_of_a_killed_process_goes_on(s3_place: Place, wire: Wire, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=LARGE)
    digest = s3_place.store().artifacts.put(file, kind="answers").digest
    behind, copy = s3_place.at(wire.url), tmp_path / "copies" / "copy"
    process = SPAWN.Process(target=download_once, args=(behind.url, behind.user, behind.password, digest, copy))
    # What passes the wire and is not yet read waits in the sockets: a few MiB at most.
    wire.cut_down, wire.on_cut = 5 * PART_SIZE, process.kill
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (partial,) = copy.parent.iterdir()
    left = partial.stat().st_size
    assert partial != copy
    assert left > 0
    wire.mend()
    assert behind.store().artifacts.download(digest, copy).read_bytes() == file.read_bytes()
    assert LARGE - left <= wire.down < LARGE - left + MIB
    assert list(copy.parent.iterdir()) == [copy]


def test_s3_a_cut_download_says_so_and_goes_on(s3_place: Place, wire: Wire, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=4 * MIB)
    digest = s3_place.store().artifacts.put(file, kind="answers").digest
    behind = s3_place.at(wire.url).store()
    wire.mend()
    wire.cut_down = 2 * MIB
    with pytest.raises(StorageError, match="Try again"):
        behind.artifacts.download(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    wire.mend()
    assert behind.artifacts.download(digest, tmp_path / "copy").read_bytes() == file.read_bytes()
    assert wire.down < 4 * MIB


class Recording(FolderObjects):
    """A folder that notes where reads begin."""

    starts: list[int]

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.starts.append(start)
        return super().read(key, start=start, end=end)


@pytest.mark.slow
def test_folder_upload_and_download_of_a_killed_process(folder_place: Place, tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", size=3 * MIB)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    store = folder_place.store()
    _run_killed(SPAWN.Process(target=put_limited, args=(folder_place.url, file, MIB)))
    assert list(store.artifacts.list()) == keys_of(store.objects, BLOBS) == []
    store.artifacts.put(file, kind="answers")
    assert not list((tmp_path / "store").rglob(".*.partial"))
    copy = tmp_path / "copies" / "copy"
    _run_killed(SPAWN.Process(target=download_limited, args=(folder_place.url, digest, copy, MIB)))
    assert not copy.exists()
    recording = Recording(tmp_path / "store")
    recording.starts = []
    assert Store(recording).artifacts.download(digest, copy).read_bytes() == file.read_bytes()
    assert recording.starts == [MIB]


def _run_killed(process: SPAWN.Process) -> None:  # type: ignore[name-defined]
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGXFSZ


@pytest.mark.slow
def test_s3_a_wire_that_stays_cut_is_a_storage_error(s3_place: Place, wire: Wire) -> None:
    wire.is_cut = True
    with pytest.raises(StorageError, match="Check the endpoint"):
        s3_place.at(wire.url).store()


def test_a_place_that_cannot_be_written_says_so(folder_place: Place, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    digest = folder_place.store().artifacts.put(make_file(tmp_path / "file", size=9), kind="space").digest
    with pytest.raises(StorageError, match="choose another place"):
        folder_place.store().artifacts.download(digest, blocked / "copy")
    with pytest.raises(StorageError, match="Free space"):
        open_store(blocked / "store")
