"""Catalogues and adapters, as a phone fetches them: over bad networks, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_cases import write_adapter

from xpert.client import AsyncClient, Cache, Client, OfflineWarning
from xpert.client.fake import FakeServer, Fault
from xpert.core.catalogue import load_compact
from xpert.core.errors import FileFormatError, InputError, NotFoundError, StorageError, UnavailableError, UnsafeFileError
from xpert.core.files import sha256_hex

Connect = Callable[..., Any]
WEIGHTS = "adapter_model.safetensors"
NOWHERE = "http://127.0.0.1:9"


def ranges(fake: FakeServer) -> list[str]:
    return [seen.headers.get("range", "") for seen in fake.seen if seen.path.startswith("/store/")]


class TestCatalogue:
    def test_its_body_comes_once(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "poetic", words={"poetic": 0.9})
        fake.add("starter", "concise", words={"concise": 0.5})
        client = connect()
        found = client.catalogue("starter")
        assert found.candidates.names == ("concise", "poetic")
        assert np.array_equal(found.candidates.coefficients, load_compact(found.path).coefficients)
        again = client.catalogue("starter")
        assert (again.version, again.path, again.fresh) == (found.version, found.path, True)
        assert fake.seen[-1].headers["if-none-match"] == f'"{found.version}"'
        assert client.catalogue_info("starter").version == found.version

    def test_a_new_version_takes_the_place_of_the_old(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "poetic")
        client = connect()
        first = client.catalogue("starter")
        fake.add("starter", "concise")
        second = client.catalogue("starter")
        assert len(second.candidates.names) == 2
        assert not first.path.exists()

    def test_only_what_has_changed_comes(self, fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
        for name in ("poetic", "concise", "formal"):
            fake.add("starter", name)
        client = connect()
        first = client.catalogue("starter")
        client.delete("starter", "formal")
        fake.add("starter", "humorous")
        second = client.catalogue("starter")
        asked = [seen for seen in fake.seen if seen.path == "/v1/catalogues/starter" and seen.params]
        assert [seen.param("since") for seen in asked] == [first.version]
        assert second.candidates.names == ("concise", "humorous", "poetic")
        whole = connect(cache=Cache(tmp_path / "other")).catalogue("starter")
        assert (second.version, second.path.read_bytes()) == (whole.version, whole.path.read_bytes())

    @pytest.mark.parametrize("wrong", ["damaged", "of another copy"])
    def test_where_a_delta_does_not_lead_there_the_whole_is_fetched(self, fake: FakeServer, connect: Connect, wrong: str) -> None:
        fake.add("starter", "poetic")
        client = connect()
        first = client.catalogue("starter")
        if wrong == "damaged":
            fake.faults.append(Fault(path="/v1/catalogues/", damage=True))
        else:
            other = FakeServer()
            other.add("starter", "sarcastic")
            first.path.write_bytes(other.state.catalogue("starter")[1])  # whole, but not what its version says
        fake.add("starter", "concise")
        assert client.catalogue("starter").candidates.names == ("concise", "poetic")
        assert [bool(seen.params) for seen in fake.seen if seen.headers.get("accept", "").startswith("application/vnd")] == [
            False,
            True,
            False,
        ]

    def test_each_style_space_has_its_own(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "poetic")
        client, space = connect(), fake.state.style.digest
        named = client.catalogue("starter", space=space)
        assert fake.seen[-1].param("space") == space
        assert client.catalogue("starter").path == named.path
        assert client.catalogue_info("starter", space=space).space == space
        with pytest.raises(NotFoundError, match="style space"):
            client.catalogue("starter", space="0" * 64)
        with pytest.raises(InputError, match="No name"):
            client.catalogue("starter", space="../other")

    def test_it_is_there_while_the_server_is_not(self, fake: FakeServer, connect: Connect, url: str) -> None:
        fake.add("starter", "poetic")
        client = connect()
        first = client.catalogue("starter")
        fake.faults += [Fault(status=503)] * 2
        with pytest.warns(OfflineWarning, match="catalogue of 'starter' is from the cache"):
            away = client.catalogue("starter")
        assert (away.version, away.fresh) == (first.version, False)
        n = len(fake.seen)
        assert connect(offline=True).catalogue("starter").candidates.names == ("poetic",)
        assert len(fake.seen) == n
        with pytest.raises(UnavailableError, match="offline"):
            connect(offline=True).catalogue("other")
        with pytest.raises(UnavailableError, match="offline"):
            connect(offline=True).version()

    def test_a_damaged_copy_is_fetched_again(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "poetic")
        client = connect()
        path = client.catalogue("starter").path
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        assert load_compact(client.catalogue("starter").path)
        fake.add("starter", "concise")
        fake.faults += [Fault(path="/v1/catalogues/", damage=True)] * 2  # what has changed, then the whole
        with pytest.raises(FileFormatError):
            client.catalogue("starter")
        assert connect(offline=True).catalogue("starter").candidates.names == ("poetic",)

    def test_names_of_another_version_are_not_taken(self, fake: FakeServer, connect: Connect) -> None:
        pllm = fake.add("starter", "poetic")
        client = connect()
        with pytest.MonkeyPatch.context() as patch:
            whole = fake.state.catalogue
            answers = iter([whole("starter"), (whole("starter")[0].model_copy(update={"version": "newer"}), b"")])
            patch.setattr(fake.state, "catalogue", lambda _: next(answers))
            assert client.catalogue("starter").candidates.names == (pllm.adapter_digest[:16],)

    def test_nothing_about_the_user_is_sent(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "poetic")
        connect().catalogue("starter")
        for seen in fake.seen:
            assert (seen.method, seen.params, seen.body) == ("GET", (), b"")
            assert set(seen.headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent", "if-none-match"}


class TestDownload:
    def test_it_goes_on_where_it_was_cut(self, fake: FakeServer, connect: Connect, adapter: Path) -> None:
        pllm = fake.add("starter", "mine", folder=adapter)
        size = pllm.adapter_bytes
        fake.faults += [Fault(path=f"/store/{pllm.files[WEIGHTS]}", cut_after=50_000)] * 3
        told: list[tuple[int, int]] = []
        folder = connect().pull("starter", "mine", progress=lambda *numbers: told.append(numbers))
        assert (folder / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
        assert ranges(fake)[1:] == ["", *(f"bytes={50_000 * n}-" for n in (1, 2, 3))]
        done = [each for each, _ in told]
        assert done == sorted(done)
        assert told[-1][0] == told[-1][1] >= size

    def test_attempts_count_anew_as_long_as_bytes_come(self, fake: FakeServer, connect: Connect, adapter: Path) -> None:
        pllm = fake.add("starter", "mine", folder=adapter)
        fake.faults += [Fault(path=f"/store/{pllm.files[WEIGHTS]}", cut_after=20_000)] * 11
        assert (connect().pull("starter", "mine") / WEIGHTS).stat().st_size == pllm.adapter_bytes

    def test_another_client_goes_on_later(self, fake: FakeServer, connect: Connect, adapter: Path) -> None:
        pllm = fake.add("starter", "mine", folder=adapter)
        place = f"/store/{pllm.files[WEIGHTS]}"
        fake.faults += [Fault(path=place, cut_after=70_000), *[Fault(path=place, status=503)] * 7]
        client = connect()
        with pytest.raises(UnavailableError):
            client.pull("starter", "mine")
        assert not list(client.cache.folder.glob("items/*"))
        fake.faults.clear()
        connect().pull("starter", "mine")
        assert ranges(fake)[-1] == "bytes=70000-"

    def test_a_store_that_sends_everything_again(self, fake: FakeServer, connect: Connect, adapter: Path) -> None:
        pllm = fake.add("starter", "mine", folder=adapter)
        place = f"/store/{pllm.files[WEIGHTS]}"
        fake.faults += [Fault(path=place, cut_after=70_000), Fault(path=place, ignore_range=True)]
        folder = connect().pull("starter", "mine")
        assert (folder / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
        assert ranges(fake) == ["", "", "bytes=70000-"]

    def test_bytes_that_are_all_there_already(self, fake: FakeServer, connect: Connect, adapter: Path) -> None:
        fake.add("starter", "mine", folder=adapter)
        client = connect()
        key = client.pull("starter", "mine").name
        cache = client.cache
        for length, data in ((0, b""), (1, b"x" * 10**6)):  # complete, and more than there is
            items = cache.folder / "items" / key
            part = cache.part(key, WEIGHTS)
            part.write_bytes((items / WEIGHTS).read_bytes() + data * length)
            for path in items.iterdir():
                path.unlink()
            assert (client.pull("starter", "mine") / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()

    def test_wrong_content_is_never_kept(self, fake: FakeServer, connect: Connect, adapter: Path, tmp_path: Path) -> None:
        pllm = fake.add("starter", "mine", folder=adapter)
        place = f"/store/{pllm.files[WEIGHTS]}"
        fake.faults.append(Fault(path=place, damage=True))
        client = connect()
        assert (client.pull("starter", "mine") / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
        client.cache.clear()
        fake.faults += [Fault(path=place, damage=True)] * 2
        with pytest.raises(FileFormatError, match="another content than its digest"):
            client.pull("starter", "mine", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert not list(client.cache.folder.glob("*/*/adapter_model*"))

    def test_a_signed_address_that_ran_out_is_asked_for_anew(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "mine")
        fake.faults.append(Fault(path="/store/", status=403))
        assert connect().pull("starter", "mine").is_dir()

    def test_it_is_copied_out_and_found_by_its_id(self, fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
        for i in range(3):
            fake.add("starter", f"p{i}", folder=write_adapter(tmp_path / f"p{i}", f"p{i}"))
        client = connect()
        id_ = fake.state.pllms["starter", "p1"].adapter_digest[:16]
        out = client.pull("starter", id_, tmp_path / "out")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in (tmp_path / "p1").iterdir()
        }
        assert connect(offline=True).pull("starter", id_) == client.pull("starter", "p1")
        with pytest.raises(NotFoundError):
            client.pull("starter", "0" * 16)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.txt").write_text("mine")
        with pytest.raises(InputError, match="would be replaced"):
            client.pull("starter", "p1", tmp_path / "other")

    def test_it_is_there_while_the_server_is_not(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "mine")
        folder = connect().pull("starter", "mine")
        n = len(fake.seen)
        assert connect(offline=True).pull("starter", "mine") == folder
        assert len(fake.seen) == n
        fake.faults += [Fault(status=503)] * 2
        with pytest.warns(OfflineWarning, match="'mine' is from the cache"):
            assert connect().pull("starter", "mine") == folder
        with pytest.raises(UnavailableError):
            connect(offline=True).pull("starter", "other")

    def test_one_that_was_withdrawn_is_not_given_from_the_cache(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "mine")
        client = connect()
        client.pull("starter", "mine")
        client.delete("starter", "mine")
        with pytest.raises(NotFoundError):
            client.pull("starter", "mine")
        with pytest.raises(UnavailableError):
            connect(offline=True).pull("starter", "mine")

    def test_a_quarantined_one_is_refused(self, fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
        folder = write_adapter(tmp_path / "bad", "bad")
        (folder / WEIGHTS).write_bytes(b"no safetensors at all")
        fake.add("starter", "bad", folder=folder)
        with pytest.raises(FileFormatError, match="was refused by the server"):
            connect().pull("starter", "bad")

    @pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "weights.bin", ".hidden.json", "a\\b.json"])
    def test_names_that_lead_elsewhere_are_refused(self, fake: FakeServer, connect: Connect, name: str) -> None:
        pllm = fake.add("starter", "mine")
        fake.state.pllms["starter", "mine"] = pllm.model_copy(update={"files": {**pllm.files, name: sha256_hex(b"x")}})
        with pytest.raises(UnsafeFileError, match="could run code or lead elsewhere"):
            connect().pull("starter", "mine")
        assert ranges(fake) == []

    def test_a_damaged_copy_is_fetched_again(self, fake: FakeServer, connect: Connect) -> None:
        fake.add("starter", "mine")
        client = connect()
        path = client.pull("starter", "mine") / WEIGHTS
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"\x00\x00")
        assert (client.pull("starter", "mine") / WEIGHTS).read_bytes() == good


def test_many_pull_one_adapter_and_it_comes_once(fake: FakeServer, url: str, adapter: Path, tmp_path: Path) -> None:
    fake.add("starter", "mine", folder=adapter)
    start = threading.Barrier(6)

    def pull(number: int) -> bytes:
        with Client(url, cache=tmp_path / "kept") as client:
            start.wait()
            return (client.pull("starter", "mine", tmp_path / f"out{number}") / WEIGHTS).read_bytes()

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(pull, range(6)))
    assert found == {(adapter / WEIGHTS).read_bytes()}
    assert len(ranges(fake)) == 2


def test_many_tasks_of_one_loop_pull_one_adapter(fake: FakeServer, url: str, adapter: Path, tmp_path: Path) -> None:
    fake.add("starter", "mine", folder=adapter)

    async def all_of_them() -> list[Path]:
        async with AsyncClient(url, cache=tmp_path / "kept") as client:
            return await asyncio.gather(*(client.pull("starter", "mine") for _ in range(6)))

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert len(ranges(fake)) == 2


class TestCache:
    def test_what_was_used_longest_ago_goes_first(self, fake: FakeServer, url: str, tmp_path: Path) -> None:
        sizes = set()
        for name in "abcd":
            fake.add("starter", name, folder=write_adapter(tmp_path / name, name, width=1000))
            sizes.add(sum(path.stat().st_size for path in (tmp_path / name).iterdir()))
        cache = Cache(tmp_path / "kept", limit=3 * max(sizes))
        with Client(url, cache=cache) as client:
            folders = {name: client.pull("starter", name) for name in "abc"}
            for age, name in enumerate("abc"):
                os.utime(folders[name], (age, age))
            client.pull("starter", "a")
            folders["d"] = client.pull("starter", "d")
        assert {name for name, folder in folders.items() if folder.exists()} == {"a", "c", "d"}
        assert cache.size <= cache.limit

    def test_what_is_being_fetched_stays(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path, limit=0)
        cache.part("k" * 64, WEIGHTS).write_bytes(b"1234")
        with cache.lock("k" * 64):
            cache.evict()
            assert cache.size == 4
        cache.evict()
        assert cache.size == 0

    def test_one_larger_than_the_limit_is_given_all_the_same(self, fake: FakeServer, url: str, tmp_path: Path) -> None:
        fake.add("starter", "a")
        fake.add("starter", "b")
        with Client(url, cache=Cache(tmp_path / "kept", limit=0)) as client:
            assert client.pull("starter", "a", tmp_path / "out").is_dir()
            client.pull("starter", "b")
            assert len(list((tmp_path / "kept" / "items").iterdir())) == 1

    def test_the_newest_catalogue_stays(self, fake: FakeServer, url: str, tmp_path: Path) -> None:
        fake.add("starter", "a")
        fake.add("other", "b")
        with Client(url, cache=Cache(tmp_path / "kept", limit=0)) as client:
            first, second = client.catalogue("starter"), client.catalogue("other")
        assert (first.path.exists(), second.path.exists()) == (False, True)

    def test_a_place_that_cannot_be_written(self, fake: FakeServer, url: str, tmp_path: Path) -> None:
        fake.add("starter", "a")
        (tmp_path / "file").write_text("")
        with Client(url, cache=tmp_path / "file") as client, pytest.raises(StorageError, match="XPERT_CACHE"):
            client.pull("starter", "a")
