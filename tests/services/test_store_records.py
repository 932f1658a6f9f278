"""Records: no update is ever lost, whoever else writes and whatever the network loses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from store_cases import Place, Wire, increment, make_file, one_more

from xpert.core.errors import ConflictError, FileFormatError, InputError, NotFoundError
from xpert_services.store import Draft, FolderObjects, Store, attempts
from xpert_services.store.keys import record_key

SPAWN = multiprocessing.get_context("spawn")


def test_create_get_replace_remove(store: Store, tmp_path: Path) -> None:
    digest = store.artifacts.put(make_file(tmp_path / "file", size=10), kind="entry").digest
    made = store.records.create("pLLMs", "Größe/1", Draft({"words": ["knapp"]}, {"entry": digest}))
    assert store.records.get("pLLMs", "Größe/1") == made
    assert (made.revision, dict(made.artifacts)) == (1, {"entry": digest})
    with pytest.raises(ConflictError, match="already"):
        store.records.create("pLLMs", "Größe/1", Draft({}))
    second = store.records.replace(made, Draft({"words": []}))
    assert (second.revision, second.value, second.artifacts) == (2, {"words": []}, {})
    with pytest.raises(ConflictError, match="revision 2, expected 1"):
        store.records.replace(made, Draft({}))
    with pytest.raises(ConflictError, match="another writer"):
        store.records.remove(made)
    assert list(store.records.list("pLLMs")) == [second]
    store.records.remove(second)
    assert list(store.records.list("pLLMs")) == []
    with pytest.raises(NotFoundError, match="no record"):
        store.records.get("pLLMs", "Größe/1")
    with pytest.raises(ConflictError):
        store.records.replace(second, Draft({}))
    assert store.records.create("pLLMs", "Größe/1", Draft({})).revision == 4


def test_update_begins_again_when_another_writer_was_first(store: Store) -> None:
    seen = []

    def slow(record: object) -> Draft:
        seen.append(record)
        if len(seen) == 1:
            store.records.update("counters", "n", one_more)
        return one_more(store.records.get("counters", "n"))

    assert store.records.update("counters", "n", slow).value == {"n": 2}
    assert len(seen) == 2


def test_a_record_must_be_json_and_refer_to_what_is_there(store: Store) -> None:
    for bad in ({"x": {1, 2}}, {"x": float("nan")}, {"x": b"bytes"}):
        with pytest.raises(InputError, match="JSON"):
            store.records.create("c", "n", Draft(bad))
    with pytest.raises(NotFoundError, match="not in the store"):
        store.records.create("c", "n", Draft({}, {"entry": "0" * 64}))
    with pytest.raises(InputError, match="is no digest"):
        store.records.create("c", "n", Draft({}, {"entry": "x"}))
    assert list(store.records.list("c")) == []


def test_a_damaged_record_is_refused(store: Store) -> None:
    store.records.create("c", "n", Draft({"x": 1}))
    key = record_key("c", "n")
    whole = store.objects.get(key).data
    for bad in (
        whole[:-5],
        b"[]",
        b"\xff",
        whole.replace(b'"version": 1', b'"version": 2'),
        whole.replace(b'"revision"', b'"r"'),
        whole.replace(b'"artifacts": {}', b'"artifacts": {"entry": 7}'),
        whole.replace(b'{\n  "x": 1\n }', b"3"),
    ):
        assert bad != whole
        store.objects.put(key, bad)
        with pytest.raises(FileFormatError):
            store.records.get("c", "n")
        with pytest.raises(FileFormatError):
            store.collect_garbage()


def test_a_record_says_what_was_written_not_what_the_caller_still_changes(store: Store) -> None:
    value = {"words": ["a"], "more": ("b",)}
    made = store.records.create("c", "n", Draft(value))
    value["words"].append("later")  # type: ignore[union-attr]
    assert made.value == {"words": ["a"], "more": ["b"]}
    assert store.records.get("c", "n") == made


class Answering(FolderObjects):
    """A folder whose next write succeeds and is then said to have come second, as when an answer got lost and was asked again."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = super().put(key, data, if_absent=if_absent, if_match=if_match)
        after, self.after = self.after, None
        if after:
            after()
            raise ConflictError("another writer was first")
        return etag

    after: Callable[[], object] | None = None


def test_a_lost_answer_does_not_let_another_writers_change_be_lost(tmp_path: Path) -> None:
    objects = Answering(tmp_path)
    store = Store(objects)
    first = store.records.create("c", "n", Draft({"n": 1}))
    objects.after = lambda: store.records.update("c", "n", one_more)
    second = store.records.replace(first, Draft({"n": 5}))
    assert (second.value, second.revision) == ({"n": 5}, 2)
    assert store.records.get("c", "n").value == {"n": 6}
    with pytest.raises(ConflictError):
        store.records.replace(second, Draft({"n": 7}))
    assert store.records.get("c", "n").value == {"n": 6}


class Refusing(FolderObjects):
    """A folder where another writer is always first."""

    n_refused = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.n_refused += 1
        raise ConflictError("another writer was first")


def test_writers_that_always_lose_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 0.0)
    objects = Refusing(tmp_path / "store")
    store, file = Store(objects), make_file(tmp_path / "file", size=9)
    for call in (lambda: store.records.update("c", "n", one_more), lambda: store.artifacts.put(file, kind="entry")):
        objects.n_refused = 0
        with pytest.raises(ConflictError, match="300 times, try again when fewer write"):
            call()
        assert objects.n_refused == 300


def test_an_error_of_the_updating_function_is_not_tried_again(store: Store) -> None:
    seen = []

    def fail(record: object) -> Draft:
        seen.append(record)
        raise ConflictError("of the caller's own")

    with pytest.raises(ConflictError, match="own"):
        store.records.update("c", "n", fail)
    assert seen == [None]


@pytest.mark.slow
def test_processes_that_increment_one_record_lose_nothing(place: Place) -> None:
    store = place.store()
    arguments = (place.url, place.user, place.password, 10)
    processes = [SPAWN.Process(target=increment, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = store.records.get("counters", "visits")
    assert (found.value, found.revision) == ({"n": 40}, 40)


def test_threads_that_increment_one_record_lose_nothing(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.records.update("counters", "visits", one_more), range(40)))
    assert store.records.get("counters", "visits").value == {"n": 40}


def test_threads_that_create_one_record_have_one_winner(store: Store) -> None:
    def create(n: int) -> int | None:
        try:
            store.records.create("c", "one", Draft({"n": n}))
        except ConflictError:
            return None
        return n

    with ThreadPoolExecutor(8) as pool:
        won = [n for n in pool.map(create, range(16)) if n is not None]
    assert [store.records.get("c", "one").value["n"]] == won


def test_a_write_whose_answer_got_lost_counts_once(s3_place: Place, wire: Wire) -> None:
    s3_place.store().records.create("counters", "n", Draft({"n": 1}))
    behind = s3_place.at(wire.url).store()

    def losing(record: object) -> Draft:
        wire.n_lost = 1  # the next answer is that of the write
        return one_more(s3_place.store().records.get("counters", "n"))

    assert behind.records.update("counters", "n", losing).revision == 2
    assert wire.n_lost == 0
    assert s3_place.store().records.get("counters", "n").value == {"n": 2}
