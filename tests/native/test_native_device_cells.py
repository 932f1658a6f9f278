"""xpert-device chooses in a large catalogue: it names cells to fetch, its own among decoys, and finds its own in what came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, blocks, run_in_order
from native_cases import BAD_INPUT, MISMATCH, NOT_FOUND, Native, device

from xpert.client.fake import FakeServer
from xpert.core.cells import CellIndex
from xpert.core.data import stylebank
from xpert.core.space import StyleSpace
from xpert.models.encoders import default_encoder
from xpert_mobile.bundle.making import export_encoder_bundle

pytestmark = pytest.mark.slow
WORDS = StyleSpace.default().words


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    return export_encoder_bundle(tmp_path_factory.mktemp("bundle") / "chooser.xpert", cache=programs).folder


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server whose catalogue has a pLLM for every two words, in cells of 12."""
    fake = FakeServer(cell_capacity=12)
    for i, first in enumerate(WORDS):
        for second in WORDS[i + 1 :]:
            fake.add("starter", f"{first}-{second}", words={first: 0.6, second: 0.6})
    yield fake


@pytest.fixture
def index(fake: FakeServer, tmp_path: Path) -> Path:
    return index_of(fake, tmp_path / "index")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return texts_in("poetic", tmp_path / "mine.jsonl")


def index_of(fake: FakeServer, path: Path) -> Path:
    path.write_bytes(fake.state.cells("starter").index)
    return path


def texts_in(style: str, path: Path) -> Path:
    records = [{"text": text.text} for text in stylebank() if text.style == style][:12]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def named(native: Native, bundle: Path, index: Path, folder: Path, texts: Path, *options: object) -> list[str]:
    words = ["cells", bundle, index, folder, "--texts", texts, "--whole-kib", 0, *options]
    return device(native, *words).stdout.split()


def fetch(fake: FakeServer, names: list[str], folder: Path) -> None:
    for name in names:
        (folder / name).write_bytes(fake.state.cells("starter").named(name))


def own_of(index: Path, texts: Path) -> str:
    """The cell that the SDK finds."""
    cells = CellIndex.load(index)
    raw = default_encoder().encode([json.loads(line)["text"] for line in texts.read_text().splitlines()])
    return cells.cell_name(int(cells.nearest(StyleSpace.default().coefficients(raw).mean(0) - cells.base_coefficients)[0]))


def test_the_own_cell_is_named_among_the_same_decoys_every_time(native: Native, bundle: Path, index: Path, mine: Path) -> None:
    folder = mine.parent / "cells"
    first = named(native, bundle, index, folder, mine)
    own = own_of(index, mine)
    assert len(set(first)) == 8
    assert own in first
    orders = [named(native, bundle, index, folder, mine) for _ in range(4)]
    assert {frozenset(names) for names in orders} == {frozenset(first)}
    assert len({tuple(names) for names in orders}) > 1  # the order tells nothing: four equal ones of 40,320 do not come about
    # Another style asks for its own cell beside the decoys of before.
    other = named(native, bundle, index, folder, texts_in("formal", mine.parent / "other.jsonl"))
    assert own_of(index, mine.parent / "other.jsonl") in other
    assert len(set(first) & set(other)) >= 6
    assert named(native, bundle, index, folder, mine, "--cells", 1) == [own]
    told = device(native, "cells", bundle, index, folder, "--texts", mine, "--whole-kib", 0, "--json").stdout
    assert set(json.loads(told)["cells"]) == set(first)


def test_the_choice_is_that_of_the_own_cell(native: Native, bundle: Path, fake: FakeServer, index: Path, mine: Path) -> None:
    folder = mine.parent / "cells"
    names = named(native, bundle, index, folder, mine)
    words = ["select", bundle, folder, "--index", index, "--texts", mine]
    assert "not in" in device(native, *words, status=NOT_FOUND).stderr
    fetch(fake, names, folder)
    found = json.loads(device(native, *words, "--json").stdout)
    own = folder / own_of(index, mine)
    assert found == json.loads(device(native, "select", bundle, own, "--index", index, "--texts", mine, "--json").stdout)
    assert len(found["matches"]) == 12
    # What is there is not asked for again, but damaged it is, among the same decoys.
    assert named(native, bundle, index, folder, mine) == []
    own.write_bytes(own.read_bytes()[:-1])
    assert set(named(native, bundle, index, folder, mine)) == set(names)
    fetch(fake, names, folder)
    # As the Python client and the Android library name it.
    own.rename(own.with_name(f"{own.name}.xcat.safetensors"))
    assert named(native, bundle, index, folder, mine) == []
    assert json.loads(device(native, *words, "--json").stdout) == found
    own.write_bytes((folder / next(name for name in names if name != own.name)).read_bytes())
    assert "expected cell" in device(native, *words, status=MISMATCH).stderr


def test_decoys_stay_where_they_are_when_the_catalogue_changes(
    native: Native, bundle: Path, fake: FakeServer, index: Path, mine: Path
) -> None:
    folder = mine.parent / "cells"
    named(native, bundle, index, folder, mine)
    places = (folder / "decoys.json").read_text()
    fake.add("starter", "new", words={WORDS[0]: 0.9})
    newer = index_of(fake, mine.parent / "newer")
    assert newer.read_bytes() != index.read_bytes()
    assert own_of(newer, mine) in named(native, bundle, newer, folder, mine)
    assert (folder / "decoys.json").read_text() == places
    # Of another style space, or damaged.
    for broken in ("[[0.1, 0.2]]", "[", "{}", "[]", "3", ""):
        (folder / "decoys.json").write_text(broken)
        done = device(native, "cells", bundle, index, folder, "--texts", mine, "--whole-kib", 0)
        assert "drawn anew" in done.stderr
        assert len(done.stdout.split()) == 8
        assert len(json.loads((folder / "decoys.json").read_text())) > 8


def test_what_tells_the_server_more_than_it_need_is_refused(native: Native, bundle: Path, index: Path, mine: Path) -> None:
    words = ["cells", bundle, index, mine.parent / "cells", "--texts", mine]
    assert "fetch it whole" in device(native, *words, status=BAD_INPUT).stderr
    for option, value in (("--cells", 0), ("--cells", 129), ("--cells", 2.5), ("--whole-kib", -1)):
        assert "expected a whole number" in device(native, *words, option, value, status=BAD_INPUT).stderr
    assert not (mine.parent / "cells").exists()
    device(native, "cells", bundle, mine.parent / "none", mine.parent, "--texts", mine, status=NOT_FOUND)
    assert "--index" in device(native, "select", bundle, mine.parent, "--texts", mine, status=BAD_INPUT).stderr


def test_the_shell_does_it_as_the_readme_shows(native: Native, bundle: Path, fake: FakeServer, mine: Path) -> None:
    bundle_here = mine.parent / "starter.xpert"
    bundle_here.symlink_to(bundle)
    found = [block for block in blocks(ROOT / "mobile" / "README.md", "bash") if "cells" in block.code]
    assert len(found) == 1
    with fake.serve() as url:
        replaced = {
            "https://xpert.example.org": url,
            "./taskw device -- cells": f"{native.device} cells --whole-kib 0",  # this catalogue is small
            "./taskw device --": str(native.device),
        }
        (printed,) = run_in_order(found, folder=mine.parent, replaced=replaced).values()
    asked = [seen.path for seen in fake.seen]
    assert asked[0] == "/v1/catalogues/starter/cells"
    assert len(set(asked[1:])) == 8
    assert "confidence" in printed
