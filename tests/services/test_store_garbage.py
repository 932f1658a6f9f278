"""Garbage collection: what nobody refers to goes, and what a writer has just referred to never does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from store_cases import Party, keys_of, make_file

from xpert.core.errors import InputError, NotFoundError, StorageError
from xpert_services.store import Draft, FolderObjects, ObjectStore, Retention, Store
from xpert_services.store.cards import Card, read_card, write_card
from xpert_services.store.garbage import GarbageCollector
from xpert_services.store.keys import BLOBS, CARDS, card_key, record_key
from xpert_services.store.objects import PART_SIZE, Content, Source

AT_ONCE = Retention(unreferenced=timedelta(0))


def collector(store: Store, retention: Retention = AT_ONCE) -> GarbageCollector:
    return GarbageCollector(store.objects, store.records, retention=retention)


def clear(objects: ObjectStore) -> None:
    for key in keys_of(objects):
        objects.delete(key)


def test_only_the_unreferenced_goes(store: Store, tmp_path: Path) -> None:
    kept, gone = (store.artifacts.put(make_file(tmp_path / "f", size=50, seed=seed), kind="entry").digest for seed in (1, 2))
    record = store.records.create("c", "n", Draft({}, {"entry": kept}))
    found = store.collect_garbage(retention=AT_ONCE)
    assert (found.artifacts, found.n_bytes, found.n_orphans) == ((gone,), 50, 0)
    assert [artifact.digest for artifact in store.artifacts.list()] == [kept]
    assert len(keys_of(store.objects, BLOBS)) == 1
    with pytest.raises(NotFoundError):
        store.artifacts.check(gone)
    store.records.remove(record)
    assert store.collect_garbage(retention=AT_ONCE).artifacts == (kept,)
    assert keys_of(store.objects, BLOBS) == []
    assert store.collect_garbage(retention=AT_ONCE).artifacts == ()


def test_what_was_collected_can_be_stored_again(store: Store, tmp_path: Path) -> None:
    file = make_file(tmp_path / "f", size=50)
    digest = store.artifacts.put(file, kind="entry").digest
    assert store.collect_garbage(retention=AT_ONCE).artifacts == (digest,)
    with pytest.raises(NotFoundError):
        store.records.create("c", "n", Draft({}, {"entry": digest}))
    store.artifacts.put(file, kind="entry")
    store.records.create("c", "n", Draft({}, {"entry": digest}))
    assert store.collect_garbage(retention=AT_ONCE).artifacts == ()
    assert store.artifacts.check(digest).size == 50


def test_retention_by_kind(store: Store, tmp_path: Path) -> None:
    store.artifacts.put(make_file(tmp_path / "f", size=50, seed=1), kind="adapter")
    answers = store.artifacts.put(make_file(tmp_path / "f", size=50, seed=2), kind="answers").digest
    assert store.collect_garbage().artifacts == ()
    hour = timedelta(hours=1)
    assert store.collect_garbage(retention=Retention(hour, {"adapter": timedelta(0), "answers": hour})).n_bytes == 50
    assert [artifact.digest for artifact in store.artifacts.list()] == [answers]
    with pytest.raises(InputError, match="negative"):
        Retention(timedelta(seconds=-1))


def test_what_an_interrupted_upload_left_goes(store: Store, tmp_path: Path) -> None:
    file = make_file(tmp_path / "f", size=50)
    digest = store.artifacts.put(file, kind="entry").digest
    announced = Card("1" * 64, "entry", 9, "g", "pending")
    write_card(store.objects, announced, None)
    store.objects.put(announced.blob, b"123456789")
    store.objects.put(Card(digest, "entry", 50, "other", "dead").blob, b"late")
    store.records.create("c", "n", Draft({}, {"entry": digest}))
    assert list(store.artifacts.list()) == [store.artifacts.stat(digest)]
    assert store.collect_garbage(retention=AT_ONCE).n_orphans == 1
    assert keys_of(store.objects, BLOBS) == [_card(store.objects, digest).blob]


def leave_unfinished(objects: ObjectStore, key: str, tmp_path: Path) -> None:
    """Begin to send a file as a process does that is killed meanwhile."""
    file = make_file(tmp_path / "large", size=2 * PART_SIZE)
    source = Source.read(file)
    with file.open("r+b") as stream:
        stream.seek(PART_SIZE)
        stream.write(b"another second part")
    with pytest.raises(StorageError, match="changed while"):
        objects.put_file(key, source)
    if isinstance(objects, FolderObjects):  # which has noticed the error and cleared up
        path = objects.root / key
        path.with_name(f".{path.name}.partial").write_bytes(b"half of it")
    assert key in list(objects.unfinished(BLOBS))


def test_unfinished_uploads_go_with_what_they_were_for(store: Store, tmp_path: Path) -> None:
    digest = store.artifacts.put(make_file(tmp_path / "f", size=50), kind="entry").digest
    store.records.create("c", "n", Draft({}, {"entry": digest}))
    whole, pending = _card(store.objects, digest), Card("1" * 64, "entry", 9, "g", "pending")
    write_card(store.objects, pending, None)
    late = Card(digest, "entry", 50, "given-up", "dead")
    for card in (whole, pending, late):
        leave_unfinished(store.objects, card.blob, tmp_path)
    assert store.collect_garbage().n_orphans == 1
    # What is on its way and young stays.
    assert list(store.objects.unfinished(BLOBS)) == [pending.blob]
    assert store.artifacts.check(digest).size == 50
    store.collect_garbage(retention=AT_ONCE)
    assert list(store.objects.unfinished(BLOBS)) == []
    assert keys_of(store.objects, BLOBS) == [whole.blob]


class Touching(FolderObjects):
    """A folder where a writer touches an artifact after it was listed and before its card is read."""

    touch: Callable[[], object] | None = None

    def get(self, key: str) -> Content:
        touch, self.touch = (self.touch, None) if key.startswith(CARDS) else (None, self.touch)
        if touch:
            touch()
        return super().get(key)


def test_an_artifact_touched_after_it_was_listed_is_young(tmp_path: Path) -> None:
    objects = Touching(tmp_path / "store")
    store = Store(objects)
    digest = store.artifacts.put(make_file(tmp_path / "f", size=50), kind="entry").digest
    long_ago = objects.now() - timedelta(days=2).total_seconds()
    os.utime(objects.root / card_key(digest), (long_ago, long_ago))
    objects.touch = lambda: Store(FolderObjects(objects.root)).artifacts.protect([digest])
    assert collector(store, Retention()).condemn() == []
    assert objects.touch is None
    os.utime(objects.root / card_key(digest), (long_ago, long_ago))
    assert [found.card.digest for found in collector(store, Retention()).condemn()] == [digest]


def _card(objects: ObjectStore, digest: str) -> Card:
    found = read_card(objects, digest)
    assert found
    return found[0]


def test_a_collector_that_died_after_condemning_harms_nothing(store: Store, tmp_path: Path) -> None:
    kept, gone = (store.artifacts.put(make_file(tmp_path / "f", size=50, seed=seed), kind="entry").digest for seed in (1, 2))
    assert len(collector(store).condemn()) == 2
    assert store.artifacts.check(kept).size == 50
    store.records.create("c", "n", Draft({}, {"entry": kept}))
    assert _card(store.objects, kept).state == "live"
    assert store.collect_garbage(retention=AT_ONCE).artifacts == (gone,)


def test_a_reference_between_the_two_looks_saves(store: Store, tmp_path: Path) -> None:
    digest = store.artifacts.put(make_file(tmp_path / "f", size=50), kind="entry").digest
    condemned = collector(store).condemn()
    # A writer that has not confirmed yet: only the second look can find it.
    key = record_key("c", "n")
    store.records.create("c", "n", Draft({}))
    written = store.objects.get(key).data.replace(b'"artifacts": {}', f'"artifacts": {{"entry": "{digest}"}}'.encode())
    store.objects.put(key, written)
    assert collector(store).sweep(condemned) == []
    assert _card(store.objects, digest).state == "live"


def refer(file: Path) -> Callable[[Store], object]:
    """A writer that stores a file and refers to it."""

    def job(store: Store) -> object:
        digest = store.artifacts.put(file, kind="entry").digest
        return store.records.create("c", "n", Draft({}, {"entry": digest}))

    return job


def refer_to(digest: str) -> Callable[[Store], object]:
    """A writer that refers to what was stored before."""
    return lambda store: store.records.create("c", "n", Draft({}, {"entry": digest}))


def move(digest: str) -> Callable[[Store], object]:
    """A writer that hands a reference from one record to another."""

    def job(store: Store) -> object:
        made = store.records.create("c", "n", Draft({}, {"entry": digest}))
        store.records.remove(store.records.get("c", "a"))
        return made

    return job


def collect(store: Store) -> object:
    return collector(store).run()


def check_outcome(store: Store, writer: Party, file: Path, digest: str) -> None:
    """A writer that was told of success refers to what is there, and stays so; one that was told of failure can repair it."""
    if writer.error is None:
        assert store.artifacts.check(digest).digest == digest
    else:
        assert isinstance(writer.error, NotFoundError)
        for record in store.records.list("c"):
            for referred in record.artifacts.values():
                assert store.artifacts.check(referred).digest == referred
        store.artifacts.put(file, kind="entry")
        store.records.update("c", "n", lambda _: Draft({}, {"entry": digest}))
    collect(store)
    assert store.artifacts.check(digest).digest == digest
    assert keys_of(store.objects, BLOBS) == [_card(store.objects, digest).blob]


def begin(objects: ObjectStore, tmp_path: Path, case: str) -> tuple[Store, Path, str, Callable[[Store], object]]:
    clear(objects)
    store, file = Store(objects), make_file(tmp_path / "f", size=50)
    if case == "new":
        return store, file, store.artifacts.put(make_file(tmp_path / "g", size=50), kind="entry").digest, refer(file)
    digest = store.artifacts.put(file, kind="entry").digest
    if case == "dead":
        collect(store)
        return store, file, digest, refer(file)
    if case == "move":
        store.records.create("c", "a", Draft({}, {"entry": digest}))
        return store, file, digest, move(digest)
    return store, file, digest, refer(file) if case == "again" else refer_to(digest)


CASES = ["new", "again", "refer", "dead", "move"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("collector_first", [True, False])
def test_every_point_where_one_stops_for_the_other(tmp_path: Path, case: str, collector_first: bool) -> None:
    """Stop one after each of its steps, let the other take each number of steps, then finish the first and the other."""
    objects = FolderObjects(tmp_path / "store")
    n_first = 0
    while True:
        n_second, first_done = 0, False
        while True:
            store, file, digest, job = begin(objects, tmp_path, case)
            jobs = [collect, job] if collector_first else [job, collect]
            first, second = (Party(objects, job) for job in jobs)
            first.step(n_first)
            second.step(n_second)
            first_done, second_done = first.done, second.done
            first.finish()
            second.finish()
            check_outcome(store, second if collector_first else first, file, digest)
            if second_done:
                break
            n_second += 1
        if first_done:
            break
        n_first += 1
    assert n_first > 3


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.sampled_from(CASES), turns=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=20))
@example(case="again", turns=[(0, 4), (1, 6), (2, 6)])
def test_two_writers_and_two_collectors_in_any_order(
    objects: ObjectStore, tmp_path: Path, case: str, turns: list[tuple[int, int]]
) -> None:
    store, file, digest, job = begin(objects, tmp_path, case)

    def other(store: Store) -> object:
        store.artifacts.put(file, kind="entry")
        return store.records.create("c", "other", Draft({}, {"entry": digest}))

    parties = [Party(objects, work) for work in (job, collect, other, collect)]
    for which, n_steps in turns:
        parties[which].step(n_steps)
    for party in parties:
        party.finish()
    if parties[2].error is None:
        assert store.artifacts.check(digest).digest == digest
    check_outcome(store, parties[0], file, digest)
    assert len(keys_of(objects, CARDS)) <= 2
