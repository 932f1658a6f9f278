"""Copying a store while it is written to: what is in the copy is whole, and a server goes on from it."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from api_cases import BASE, draft_of, explain_by_chance, site_at
from store_cases import Party, Place, keys_of, make_file

from xpert.core.errors import FileFormatError
from xpert_services.store import Draft, ObjectStore, Retention, Store, open_store
from xpert_services.store.__main__ import main
from xpert_services.store.keys import BLOBS, RECORDS, record_key

AT_ONCE = Retention(timedelta(0))


def check(store: Store) -> int:
    """Read every record and every artifact that one refers to; returns how many artifacts."""
    found = {digest for key in keys_of(store.objects, RECORDS) for digest in store.records.references(key)}
    for digest in found:
        store.artifacts.check(digest)
    return len(found)


def test_everything_comes_and_then_only_what_changed(store: Store, tmp_path: Path) -> None:
    files = [store.artifacts.put(make_file(tmp_path / "f", size=50, seed=seed), kind="entry").digest for seed in range(3)]
    store.records.create("c", "both", Draft({"n": 1}, {"a": files[0], "b": files[1]}))
    store.records.remove(store.records.create("c", "gone", Draft({}, {"a": files[2]})))
    copy = open_store(tmp_path / "copy")
    first = store.copy_to(copy)
    assert (first.n_records, first.n_changed, first.n_artifacts, first.n_bytes) == (2, 2, 2, 100)
    assert check(copy) == 2
    assert copy.objects.get(record_key("c", "gone")).data == store.objects.get(record_key("c", "gone")).data
    store.records.update("c", "both", lambda _: Draft({"n": 2}, {"a": files[0]}))
    second = store.copy_to(copy)
    assert (second.n_records, second.n_changed, second.n_artifacts) == (2, 1, 0)
    assert (copy.records.get("c", "both").value, copy.records.get("c", "both").revision) == ({"n": 2}, 2)
    copy.collect_garbage(retention=AT_ONCE)
    assert len(keys_of(copy.objects, BLOBS)) == 1
    back = open_store(tmp_path / "back")
    copy.copy_to(back)
    assert check(back) == 1
    assert back.records.update("c", "both", lambda record: Draft({"n": record.value["n"] + 1} if record else {})).revision == 3


def test_damage_is_told_and_the_rest_is_copied(tmp_path: Path) -> None:
    store, copy = open_store(tmp_path / "store"), open_store(tmp_path / "copy")
    for seed in range(3):
        digest = store.artifacts.put(make_file(tmp_path / "f", size=50, seed=seed), kind="entry").digest
        store.records.create("c", f"r{seed}", Draft({"n": 1}, {"f": digest}))
    store.copy_to(copy)
    later = open_store(tmp_path / "later")
    damaged = next(path for path in (tmp_path / "store" / BLOBS).rglob(f"{store.records.get('c', 'r1').artifacts['f']}*"))
    damaged.write_bytes(b"x" * 50)
    with pytest.raises(FileFormatError, match=r"1 of 3 records.*r1.*damaged"):
        store.copy_to(later)
    assert [record.name for record in later.records.list("c")] == ["r0", "r2"]
    damaged.unlink()
    with pytest.raises(FileFormatError, match=r"1 of 3 records.*r1"):
        store.copy_to(later)
    # A copy that was made before has it still: the way to repair the store is to copy back.
    assert store.copy_to(copy).n_changed == 0
    assert check(copy) == 3


@pytest.mark.parametrize("n_steps", range(1, 12))
def test_what_is_replaced_and_collected_while_it_is_copied(tmp_path: Path, n_steps: int) -> None:
    objects: ObjectStore = open_store(tmp_path / "store").objects
    store, copy = Store(objects), open_store(tmp_path / "copy")
    old, new = (store.artifacts.put(make_file(tmp_path / "f", size=50, seed=seed), kind="entry").digest for seed in (1, 2))
    store.records.create("c", "n", Draft({}, {"f": old}))
    party = Party(objects, lambda source: source.copy_to(copy))
    party.step(n_steps)
    store.records.update("c", "n", lambda _: Draft({}, {"f": new}))
    store.collect_garbage(retention=AT_ONCE)
    party.finish()
    assert party.error is None
    assert copy.records.get("c", "n").artifacts["f"] in (old, new)
    assert check(copy) == 1


@pytest.mark.slow
def test_a_server_goes_on_from_a_copy_that_was_made_while_it_wrote(place: Place, tmp_path: Path) -> None:
    site = site_at(tmp_path / "live").with_base()
    over = threading.Event()
    n_begun = threading.Semaphore(0)

    def write() -> None:
        for n in range(10**6):
            if over.is_set():
                return
            name = f"p{n % 40}"
            if n >= 40:
                site.services.pllms.remove(BASE, name)
            pllm, _, _ = site.services.pllms.register(draft_of(site.store, name, adapter=("concise", "poetic")[n % 2]))
            explain_by_chance(site.services, pllm, tmp_path, seed=n)
            if n % 10 == 9:
                site.store.collect_garbage(retention=AT_ONCE)
            n_begun.release()

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        n_begun.acquire()
    backup = place.store()
    for _ in range(3):
        site.store.copy_to(backup)
    over.set()
    writer.join()
    restored = tmp_path / "restored"
    assert backup.copy_to(open_store(restored)).n_artifacts == check(open_store(restored)) > 5
    found = site_at(restored)
    found.services.catalogues.refresh_all()
    space = found.services.spaces.default().digest
    names = sorted(name for name, _ in found.services.pllms.entries(BASE, space))
    assert found.services.catalogues.get(BASE, space).info.pllms == names != []


def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path / "store")
    digest = store.artifacts.put(make_file(tmp_path / "f", size=50), kind="entry").digest
    store.records.create("c", "n", Draft({}, {"f": digest}))
    store.artifacts.put(make_file(tmp_path / "f", size=60, seed=2), kind="entry")
    at = str(tmp_path / "store")
    said = []
    for arguments in (
        ["collect", "--store", at],
        ["collect", "--store", at, "--hours", "0"],
        ["copy", "--store", at, "--to", str(tmp_path / "copy")],
        ["migrate", "--store", at],
    ):
        assert main(arguments) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said == [
        {"artifacts": 0, "bytes": 0, "orphans": 0},
        {"artifacts": 1, "bytes": 60, "orphans": 0},
        {"records": 1, "changed": 1, "artifacts": 1, "bytes": 50},
        {"layout": 1},
    ]
    assert main(["copy", "--store", str(tmp_path / "typo"), "--to", str(tmp_path / "other")]) == 6
    assert "no store" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists() and not (tmp_path / "other").exists()
    assert main(["collect", "--store", "ftp://x"]) == 3


def test_migration_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old" / "records" / "c"
    old.mkdir(parents=True)
    (old / "n.json").write_text(json.dumps({"value": {"n": 1}, "artifacts": {}}))
    assert main(["collect", "--store", str(tmp_path / "old")]) == 5
    assert "xpert_services.store migrate" in capsys.readouterr().err
    assert main(["migrate", "--store", str(tmp_path / "old")]) == 0
    assert open_store(tmp_path / "old").records.get("c", "n").value == {"n": 1}
