"""What a phone needs of an index of cells, beside the SDK's: the cells of places and of texts, and which file is which."""

from __future__ import annotations

import json
from ctypes import byref, c_char_p, c_void_p, string_at
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells_cases import evenly, whole_of
from native_cases import BAD_FILE, BAD_INPUT, MISMATCH, NOT_FOUND, Native, PartError

from xpert.core.cells import CellIndex
from xpert.core.cutting import Cells, cut
from xpert.core.data import stylebank
from xpert.core.space import StyleSpace
from xpert.models.encoders import default_encoder
from xpert_mobile.bundle.making import export_encoder_bundle


@pytest.fixture(scope="module")
def cells() -> Cells:
    return cut(whole_of(400), evenly, capacity=20)


@pytest.fixture(scope="module")
def index(cells: Cells, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "index"
    path.write_bytes(cells.index)
    return path


def described(native: Native, index: Path, **request: Any) -> Any:
    return native.call("choice.describe_cells", index=str(index), request=request)


def test_an_index_says_what_the_sdk_reads(native: Native, index: Path) -> None:
    theirs = CellIndex.load(index)
    places = np.random.default_rng(2).normal(0, 0.3, (128, 24))
    numbers = [0, len(theirs.centres) - 1, 3]
    ours = described(native, index, centres=numbers, places=places.tolist())
    assert (ours["digest"], ours["n_pllms"], ours["n_cells"]) == (theirs.digest, theirs.n_pllms, len(theirs.centres))
    assert (ours["base_digest"], ours["space_digest"]) == (theirs.base_digest, theirs.space_digest)
    np.testing.assert_array_equal(ours["centres"], theirs.centres[numbers])
    assert ours["nearest"] == theirs.nearest(places).tolist()
    assert described(native, index)["nearest"] == []


def test_the_middle_of_a_cell_lies_in_it(native: Native, index: Path) -> None:
    n_cells = described(native, index)["n_cells"]
    centres = described(native, index, centres=list(range(n_cells)))["centres"]
    assert described(native, index, places=centres)["nearest"] == list(range(n_cells))


def test_a_file_is_the_cell_that_was_asked_for(native: Native, cells: Cells, index: Path, tmp_path: Path) -> None:
    file = tmp_path / "cell"
    file.write_bytes(cells.cell(4))
    described(native, index, cell={"file": str(file), "number": 4})
    refused(native, index, MISMATCH, "is cell 4 of the index, expected cell 5", cell={"file": str(file), "number": 5})
    other = tmp_path / "other"
    other.write_bytes(cut(whole_of(300, seed=5), evenly, capacity=20).index)
    refused(native, other, MISMATCH, "of the index", cell={"file": str(file), "number": 4})
    file.write_bytes(cells.cell(4)[:-1])
    refused(native, index, BAD_FILE, "cell", cell={"file": str(file), "number": 4})
    refused(native, index, NOT_FOUND, "no file", cell={"file": str(tmp_path / "none"), "number": 4})
    refused(native, file, BAD_FILE, "cell")


def refused(native: Native, index: Path, status: int, message: str, **request: Any) -> None:
    with pytest.raises(PartError, match=message) as caught:
        described(native, index, **request)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "request_",
    [
        {"centres": [10_000]},
        {"centres": [-1]},
        {"centres": 3},
        {"places": [[0.0] * 23]},
        {"places": [[0.0] * 23 + ["1"]]},
        {"places": [0.0]},
        {"cell": {"file": "x"}},
        {"cell": {"file": "x", "number": 10_000}},
        {"cell": "x"},
        {"other": 1},
    ],
)
def test_requests_that_make_no_sense_are_refused(native: Native, index: Path, request_: dict[str, Any]) -> None:
    refused(native, index, BAD_INPUT, "option", **request_)


def test_too_many_pllms_leave_the_merge_out_only_where_that_is_wanted(native: Native, tmp_path: Path) -> None:
    cells = cut(whole_of(2600), evenly, capacity=2600)
    for name, content in (("index", cells.index), ("cell", cells.cell(0))):
        (tmp_path / name).write_bytes(content)
    given: dict[str, Any] = {
        "catalogue": str(tmp_path / "cell"),
        "index": str(tmp_path / "index"),
        "sets": [{"texts": [[0.1] * 24]}],
    }
    with pytest.raises(PartError, match="too many sets"):
        native.call("choice.select", **given, merge=True)
    assert native.call("choice.select", **given, merge=True, if_few=True)[0]["merge"] is None
    few = native.call("choice.select", **given, merge=True, if_few=True, max_sources=1)[0]
    assert few["merge"]["sources"]


@pytest.mark.slow
def test_texts_have_the_cell_that_the_sdk_finds(native: Native, tmp_path: Path, programs: Path) -> None:
    bundle = export_encoder_bundle(tmp_path / "chooser.xpert", cache=programs).folder
    space, encoder = StyleSpace.default(), default_encoder()
    styles = sorted({text.style for text in stylebank()})
    asked = {style: [text.text for text in stylebank() if text.style == style][:12] for style in styles}
    found = {style: space.coefficients(encoder.encode(texts)) for style, texts in asked.items()}
    # Cells of the styles' own texts: pLLMs that answer as these do, mixed by twos.
    means = np.array([rows.mean(0) for rows in found.values()])
    whole = whole_of(len(means) ** 2, n_words=len(space.words))
    mixed = (means[:, None] + means[None]).reshape(len(whole.ids), -1) / 2
    whole = replace(whole, space_digest=space.digest, words=space.words, coefficients=mixed)
    (tmp_path / "index").write_bytes(cut(whole, evenly, capacity=20).index)
    index = CellIndex.load(tmp_path / "index")
    sets = [{"texts": texts} for texts in asked.values()]
    ours = native.call("choice.chooser", sets=sets, cells_of=str(tmp_path / "index"), bundle=str(bundle))
    own = [int(index.nearest(rows.mean(0) - index.base_coefficients)[0]) for rows in found.values()]
    assert [one["cells"][0]["number"] for one in ours] == own
    assert [one["cells"][0]["name"] for one in ours] == [index.cell_name(number) for number in own]
    assert len(set(own)) > 5


def test_the_c_api_gives_it_and_refuses_what_is_missing(native: Native, index: Path, tmp_path: Path) -> None:
    library = native.library()
    library.xpert_last_error.restype = c_char_p
    library.xpert_free.argtypes = (c_void_p,)
    found = c_void_p()
    assert library.xpert_describe_cells(str(index).encode(), None, byref(found)) == 0
    assert json.loads(string_at(found.value or 0)) == described(native, index)
    library.xpert_free(found)
    assert library.xpert_describe_cells(None, None, byref(found)) == BAD_INPUT
    assert library.xpert_describe_cells(str(index).encode(), None, None) == BAD_INPUT
    assert library.xpert_describe_cells(str(tmp_path / "none").encode(), b"{}", byref(found)) == NOT_FOUND
    assert b"no file" in library.xpert_last_error()
