"""Cells, as a phone asks for them: among others, always the same others, and nothing said about the user."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpert.client import Cache, OfflineWarning
from xpert.client.cells import Held, asked
from xpert.client.fake import FakeServer, Fault
from xpert.core.cells import CellIndex
from xpert.core.errors import FileFormatError, InputError, MismatchError, NotFoundError, UnavailableError
from xpert.core.selection import select

Connect = Callable[..., Any]
CELLS = "/v1/catalogues/starter/cells"
N_PLLMS = 60


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """A server whose cells hold six pLLMs, for clients to whom more than four a cell asked for are a large catalogue."""
    monkeypatch.setattr("xpert.client.cells.CELL_BYTES", 4 * 64)
    fake = FakeServer(cell_capacity=6)
    for number in range(N_PLLMS):
        fake.add("starter", f"p{number}")
    return fake


def texts_like(fake: FakeServer, name: str) -> np.ndarray[Any, Any]:
    entry = fake.state.entry(fake.state.pllms["starter", name])
    return np.array([entry.coefficients] * 12)


def cells_asked(fake: FakeServer) -> list[str]:
    return [seen.path.rsplit("/", 1)[1] for seen in fake.seen if seen.path.startswith(f"{CELLS}/")]


def test_the_choice_from_the_cell_is_the_choice_from_the_whole(fake: FakeServer, connect: Connect) -> None:
    client = connect()
    whole = client.catalogue("starter").candidates
    for name in ("p3", "p17", "p42"):
        texts = texts_like(fake, name)
        found = client.catalogue_for("starter", texts)
        assert len(found.candidates.names) == 6
        chosen = select(texts, found.candidates).matches[0].name
        assert chosen == fake.state.pllms["starter", name].adapter_digest[:16]
        assert select(texts, whole).matches[0].name == name
        assert client.pull("starter", chosen) == client.pull("starter", name)


def test_a_small_catalogue_comes_whole_and_no_cell_is_asked_for(fake: FakeServer, connect: Connect) -> None:
    found = connect().catalogue_for("starter", texts_like(fake, "p1"), cells=16)
    assert found.candidates.names == connect().catalogue("starter").candidates.names
    assert cells_asked(fake) == []


def test_the_same_cells_are_asked_for_whenever_it_asks(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    first = client.catalogue_for("starter", texts)
    asked_first = cells_asked(fake)
    assert len(set(asked_first)) == len(asked_first) == 8
    assert first.path.name.split(".")[0] in asked_first
    again = client.catalogue_for("starter", texts)
    assert (again.path, cells_asked(fake)) == (first.path, asked_first), "it is kept, and nobody is asked"
    first.path.unlink()
    client.catalogue_for("starter", texts)
    assert sorted(cells_asked(fake)[8:]) == sorted(asked_first), "never the one that is missing alone"
    client.catalogue_for("starter", texts_like(fake, "p20"))
    assert len(cells_asked(fake)) == 24 and len(set(cells_asked(fake)[16:]) - set(asked_first)) <= 2


def places_of(kept: Path) -> list[list[float]]:
    found: list[list[float]] = json.loads(kept.read_text())["decoys"]
    return found


def test_decoys_stay_where_they_are_when_the_catalogue_changes(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    old = client.catalogue_for("starter", texts)
    kept = old.path.parent / "cells.json"
    places = places_of(kept)
    fake.add("starter", "new")
    new = client.catalogue_for("starter", texts)
    assert (new.version != old.version, places_of(kept)[: len(places)]) == (True, places)
    assert not old.path.exists() and len(list(kept.parent.glob("*.cells.xcat.safetensors"))) == 1
    before, after = cells_asked(fake)[:8], cells_asked(fake)[8:]
    assert len(after) == 8 and not set(before) & set(after), "all of the new index"


def test_decoys_that_a_small_catalogue_had_no_cells_for_are_drawn_once_it_grows(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr("xpert.client.cells.CELL_BYTES", 4 * 64)
    fake = FakeServer(cell_capacity=6)
    fake.add("starter", "p0")
    with fake.serve() as url:
        client = connect(url)
        kept = client.catalogue_for("starter", texts_like(fake, "p0")).path.parent / "cells.json"
        (first,) = places_of(kept)
        for number in range(1, N_PLLMS):
            fake.add("starter", f"p{number}")
        texts = texts_like(fake, "p3")
        rounds = []
        for _ in range(3):
            n = len(cells_asked(fake))
            client.catalogue_for("starter", texts).path.unlink()
            rounds.append(set(cells_asked(fake)[n:]))
    assert len(rounds[0]) == 8 and rounds[1:] == rounds[:2], "the same ones every time"
    assert places_of(kept)[0] == first and len(places_of(kept)) > 8


def test_decoys_outlive_an_index_that_is_damaged_but_no_style_space(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    kept = client.catalogue_for("starter", texts).path.parent / "cells.json"
    places = places_of(kept)
    for path in kept.parent.glob("*.cells.xcat.safetensors"):
        path.unlink()
    client.catalogue_for("starter", texts).path.unlink()
    assert places_of(kept) == places
    facts = json.loads(kept.read_text())
    kept.write_text(json.dumps({**facts, "file": "gone", "decoys": [place[:-1] for place in places]}))
    assert client.catalogue_for("starter", texts).path.exists()
    assert {len(place) for place in places_of(kept)} == {len(places[0])}


def test_nothing_about_the_user_is_sent(fake: FakeServer, connect: Connect) -> None:
    connect().catalogue_for("starter", texts_like(fake, "p3"))
    for seen in fake.seen:
        assert (seen.method, seen.params, seen.body) == ("GET", (), b"")
        assert re.fullmatch(rf"{CELLS}(/[0-9a-f]{{16}}-[0-9]+)?", seen.path)
        assert set(seen.headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent", "if-none-match"}


def test_each_of_the_cells_is_as_often_the_first_that_is_asked_for(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(fake.state.cells("starter").index)
    index = CellIndex.load(tmp_path / "index")
    held = Held(index=index, decoys=index.centres[10:30])
    orders = [asked(held, 3, 4) for _ in range(400)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(orders[0]))}
    places = np.bincount([order.index(3) for order in orders], minlength=4)
    assert places.min() > 50
    assert sorted(asked(held, 10, 4)) != sorted(orders[0]) and 10 in asked(held, 10, 4), "one's own cell is no decoy"
    assert len(set(asked(Held(index=index, decoys=index.centres[:1]), 0, 4))) == 4, "places that fell together are made up for"
    assert sorted(asked(held, 3, 128)) == list(range(len(index.centres)))


def test_an_index_that_was_replaced_meanwhile_is_fetched_again(fake: FakeServer, connect: Connect) -> None:
    gone = Fault(path=f"{CELLS}/", error=NotFoundError("There is no such cell any more."))
    fake.faults.append(gone)
    client = connect()
    assert client.catalogue_for("starter", texts_like(fake, "p3")).fresh
    assert [seen.path for seen in fake.seen].count(CELLS) == 2
    client.cache.clear()
    fake.faults += [gone, gone]
    with pytest.raises(NotFoundError, match="any more"):
        client.catalogue_for("starter", texts_like(fake, "p3"))


def test_it_is_there_while_the_server_is_not(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    first = client.catalogue_for("starter", texts)
    fake.faults += [Fault(status=503)] * 2
    with pytest.warns(OfflineWarning, match="catalogue of 'starter' is from the cache"):
        away = client.catalogue_for("starter", texts)
    assert (away.path, away.fresh) == (first.path, False)
    n = len(fake.seen)
    assert connect(offline=True).catalogue_for("starter", texts).candidates.names == first.candidates.names
    with pytest.raises(UnavailableError, match="offline"):
        connect(offline=True).catalogue_for("starter", texts_like(fake, "p20"))
    with pytest.raises(UnavailableError, match="offline"):
        connect(offline=True).catalogue_for("other", texts)
    assert len(fake.seen) == n


def test_damaged_files_are_never_kept(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    fake.faults.append(Fault(path=CELLS, damage=True))
    with pytest.raises(FileFormatError):
        client.catalogue_for("starter", texts)
    fake.faults += [Fault(path=f"{CELLS}/", damage=True)] * 8
    with pytest.raises(FileFormatError):
        client.catalogue_for("starter", texts)
    found = client.catalogue_for("starter", texts)
    for path in found.path.parent.glob("*.xcat.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    assert client.catalogue_for("starter", texts).candidates.names == found.candidates.names
    assert not [path for path in found.path.parent.iterdir() if path.name.endswith(".new")]


def test_room_is_made_by_what_was_used_longest_ago(fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
    client = connect(cache=Cache(tmp_path / "small", limit=0))
    found = client.catalogue_for("starter", texts_like(fake, "p3"))
    assert [path.name for path in found.path.parent.glob("*.safetensors")] == [found.path.name]
    assert client.catalogue_for("starter", texts_like(fake, "p3")).candidates.names == found.candidates.names


def test_wrong_input_is_told_before_a_cell_is_asked_for(fake: FakeServer, connect: Connect) -> None:
    client, texts = connect(), texts_like(fake, "p3")
    for wrong, cells in ((texts, 0), (texts, 129), (texts[0], 8), (texts[:0], 8)):
        with pytest.raises(InputError, match="expected 1 to 128 cells"):
            client.catalogue_for("starter", wrong, cells=cells)
    with pytest.raises(MismatchError, match="24 words"):
        client.catalogue_for("starter", texts[:, :5])
    with pytest.raises(InputError, match="NaN"):
        client.catalogue_for("starter", texts * np.nan)
    with pytest.raises(NotFoundError):
        client.catalogue_for("starter", texts, space="0" * 64)
    assert cells_asked(fake) == []
