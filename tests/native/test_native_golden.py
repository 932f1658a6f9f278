"""One truth: Python and the native core both come to the numbers of tests/golden; and choose alike on the whole StyleBank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from native_cases import Native

from xpert.core.abstention import novelty
from xpert.core.catalogue import load_compact
from xpert.core.data import stylebank
from xpert.core.selection import select
from xpert.core.space import StyleSpace
from xpert.core.surface import SURFACE_NAMES, surface_statistics
from xpert_mobile.bundle.making import export_encoder_bundle

RENEW = "Write them anew with ./taskw golden, and follow in mobile/native/src/choice."


def held(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden.FOLDER / name).read_text(encoding="utf-8"))
    return found


def surface_texts() -> list[str]:
    return [*(t.text for t in stylebank()[::40]), *golden.odd_texts()]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """A bundle that chooses, exported here from MiniLM and the default space."""
    folder = tmp_path_factory.mktemp("bundle")
    export_encoder_bundle(folder / "chooser.xpert", cache=programs)
    return folder / "chooser.xpert"


def same_rows(found: Any, name: str) -> None:
    document = held(name)
    tolerance = document["tolerance"]
    assert document["names"] == list(SURFACE_NAMES), RENEW
    np.testing.assert_allclose(found, document["rows"], rtol=tolerance["relative"], atol=tolerance["absolute"], err_msg=RENEW)


def test_the_statistics_of_python_and_native_are_the_golden_ones(native: Native) -> None:
    same_rows(surface_statistics(surface_texts()), "surface.json")
    same_rows(native.call("text.surface", texts=surface_texts()), "surface.json")


def test_the_cells_of_python_and_native_are_the_golden_ones(native: Native) -> None:
    assert json.loads(json.dumps(golden.cells())) == held("cells.json"), RENEW
    found = native.call("choice.cells", index=str(golden.INDEX), values=held("cells.json")["values"])
    assert [cell["number"] for cell in found] == held("cells.json")["cells"]
    assert [cell["name"] for cell in found] == held("cells.json")["names"]


def near(found: dict[str, Any], expected: dict[str, Any], tolerance: dict[str, float]) -> None:
    for key in ("choice", "abstain", "paired", "n_texts", "first", "adapter_bytes"):
        assert found[key] == expected[key], f"{key}: {RENEW}"
    assert found["reason"].split(":")[0] == expected["reason"], RENEW
    for key in ("confidence", "margin", "similarity", "expected_saving", "misfit", "novelty"):
        assert found[key] == pytest.approx(expected[key], rel=tolerance["numbers"], abs=tolerance["numbers"]), f"{key}: {RENEW}"
    for word, numbers in expected["words"].items():
        assert found["words"][word] == pytest.approx(numbers, abs=tolerance["coefficients"]), word
    ours, theirs = found["merge"], expected["merge"]
    assert ours["sources"] == pytest.approx(theirs["sources"], abs=tolerance["weights"])
    assert (ours["single"], ours["wins"]) == (theirs["single"], theirs["wins"])
    for key in ("distance", "single_distance"):
        assert ours[key] == pytest.approx(theirs[key], rel=tolerance["numbers"])


def as_golden(found: dict[str, Any]) -> dict[str, Any]:
    """A native selection in the golden files' form."""
    first, merge = found["matches"][0], found["merge"]
    words = {w["word"]: [w["coefficient"], w["lower"], w["upper"]] for w in found["words"]}
    sources = {s["name"]: s["weight"] for s in merge["sources"]}
    return {
        **found,
        "first": first["name"],
        "adapter_bytes": first["adapter_bytes"],
        "words": words,
        "merge": {**merge, "sources": sources},
    }


@pytest.mark.slow
def test_the_choices_of_python_are_the_golden_ones() -> None:
    document, found = held("choice.json"), golden.choice(golden.minilm())
    assert (found["encoder"], found["space_digest"]) == (document["encoder"], document["space_digest"]), RENEW
    agree_on_vectors(found["embeddings"], found["coefficients"], document)
    assert list(found["users"]) == list(document["users"])
    for user, expected in document["users"].items():
        near(found["users"][user], expected, document["tolerance"])


def agree_on_vectors(embeddings: Any, coefficients: Any, document: dict[str, Any]) -> None:
    cosine = (np.array(embeddings) * np.array(document["embeddings"])).sum(1)
    assert cosine.min() > document["tolerance"]["cosine"], RENEW
    np.testing.assert_allclose(coefficients, document["coefficients"], atol=document["tolerance"]["coefficients"], err_msg=RENEW)


def neutral() -> list[str]:
    return [t.text for t in stylebank() if t.style == "neutral"][: golden.USER_TEXTS]


@pytest.mark.slow
def test_the_choices_of_native_are_the_golden_ones(native: Native, bundle: Path) -> None:
    document = held("choice.json")
    found = native.call("choice.encode", texts=neutral()[:4] + golden.odd_texts(), bundle=str(bundle))
    assert found["name"] == document["encoder"]
    vectors = np.array(found["vectors"], np.float32)
    coefficients = native.call("choice.space", space=str(bundle / "space.safetensors"), raw=vectors.tolist())["coefficients"]
    agree_on_vectors(vectors[:, : -len(SURFACE_NAMES)], coefficients, document)
    texts = golden.user_texts()
    sets: list[dict[str, Any]] = [{"texts": texts[user.split(",")[0]]} for user in document["users"]]
    for user, one in zip(document["users"], sets, strict=True):
        if document["users"][user]["paired"]:
            one["base_answers"] = neutral()[: len(one["texts"])]
    options = {"seed": 1, "merge": True}
    chosen = native.call("choice.chooser", sets=sets, options=options, catalogue=str(golden.CATALOGUE), bundle=str(bundle))
    for mine, expected in zip(chosen, document["users"].values(), strict=True):
        near(as_golden(mine), expected, document["tolerance"])


@pytest.mark.slow
def test_python_and_native_choose_alike_on_the_whole_stylebank(native: Native, bundle: Path) -> None:
    """Every text by itself, and every style's texts together; encoded once, by the native core."""
    bank = stylebank()
    raw = np.array(native.call("choice.encode", texts=[t.text for t in bank], bundle=str(bundle))["vectors"], np.float32)
    styles = np.array([t.style for t in bank])
    sets = [raw[i : i + 1] for i in range(len(bank))] + [raw[styles == style] for style in sorted(set(styles))]
    catalogue, space = golden.CATALOGUE, StyleSpace.default()
    candidates = load_compact(catalogue)
    given = [{"raw": rows.tolist()} for rows in sets]
    ours = native.call("choice.choose", space=str(bundle / "space.safetensors"), catalogue=str(catalogue), sets=given, top=1)
    for mine, rows in zip(ours, sets, strict=True):
        theirs = select(space.coefficients(rows), candidates, novelty=novelty(space, rows, candidates))
        assert (mine["choice"], mine["abstain"], mine["reason"]) == (theirs.choice, theirs.abstain, theirs.reason)
        numbers = [mine[key] for key in ("confidence", "margin", "similarity", "expected_saving", "misfit", "novelty")]
        expected = [theirs.confidence, theirs.margin, theirs.similarity, theirs.expected_saving, theirs.misfit, theirs.novelty]
        assert numbers == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert len({mine["choice"] for mine in ours}) > 5
