"""Style space, catalogues, cells and the choice of the native core beside the SDK's, from the same raw vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells_cases import evenly, whole_of
from native_cases import BAD_FILE, BAD_INPUT, MISMATCH, NOT_FOUND, Native, PartError, Surface

from xpert.core.abstention import novelty
from xpert.core.catalogue import Candidates, Catalogue, load_compact
from xpert.core.cells import CellIndex, load_cell
from xpert.core.cutting import cut
from xpert.core.data import axis_texts, stylebank, users
from xpert.core.explanation import bootstrap_interval, explain_pairs
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.merging import solve_merge
from xpert.core.sealed import seal, shared_arrays
from xpert.core.selection import Selection, select
from xpert.core.space import StyleSpace, build_space
from xpert.core.surface import surface_statistics

EXACT = 1e-9
"""Both count in double precision, but add in other orders."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "s.space.safetensors"
    build_space(axis_texts(), Surface(), name="surface ё", sentence_weight=1e-7).save(path)
    return path


def same(ours: dict[str, Any], theirs: Selection) -> None:
    assert ours["choice"] == theirs.choice
    assert (ours["abstain"], ours["reason"]) == (theirs.abstain, theirs.reason)
    assert (ours["paired"], ours["n_texts"]) == (theirs.paired, theirs.n_texts)
    for name in ("confidence", "margin", "similarity", "expected_saving", "misfit"):
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=EXACT, abs=EXACT), name
    assert [m["name"] for m in ours["matches"]] == [m.name for m in theirs.matches]
    for mine, match in zip(ours["matches"], theirs.matches, strict=True):
        assert mine["probability"] == pytest.approx(match.probability, rel=1e-6, abs=EXACT)
        assert (mine["similarity"], mine["adapter_bytes"]) == (pytest.approx(match.similarity, abs=EXACT), match.adapter_bytes)
    assert [w["word"] for w in ours["words"]] == [w.word for w in theirs.words]
    for word, other in zip(ours["words"], theirs.words, strict=True):
        assert word["held_up"] == other.held_up
        found = [word[key] for key in ("coefficient", "lower", "upper")]
        assert found == pytest.approx([other.coefficient, other.lower, other.upper], rel=EXACT, abs=EXACT)


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (0, 2), (1, 7), (2**40 + 5, 60), (4294967295, 400)])
def test_the_draws_are_numpys(native: Native, seed: int, n: int) -> None:
    theirs = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=300)
    assert native.call("choice.draws", seed=seed, n=n, size=300) == theirs.tolist()


def test_intervals_are_the_sdks(native: Native) -> None:
    rows = np.random.default_rng(3).normal(size=(25, 6))
    ours = native.call("choice.interval", rows=rows.tolist(), seed=11)
    lower, upper = bootstrap_interval(rows, seed=11)
    np.testing.assert_allclose([ours["lower"], ours["upper"]], [lower, upper], rtol=EXACT)


def test_headers_are_written_as_python_does(native: Native) -> None:
    values = [0.1, 1.0, -0.0, 1e16, 1e15, 123456789012345678.0, 1e-4, 1e-5, 5e-324, 1.7976931348623157e308, 1 / 3, 2**63, -5]
    value = {"z": values, "a": {'ß"\\\n\x7f\x01🦉': None, "A": [True, False, [], {}]}, "ё": ""}
    assert native.call("choice.python_json", json=json.dumps(value)) == json.dumps(value, sort_keys=True)


def test_the_space_is_the_sdks(native: Native, space: Path) -> None:
    theirs = StyleSpace.load(space)
    raw = surface_statistics([t.text for t in stylebank()[::9]])
    ours = native.call("choice.space", space=str(space), raw=raw.tolist())
    assert (ours["digest"], tuple(ours["words"]), ours["dim"]) == (theirs.digest, theirs.words, theirs.dim)
    np.testing.assert_allclose(ours["coefficients"], theirs.coefficients(raw), atol=EXACT)
    np.testing.assert_allclose(ours["unexplained"], theirs.unexplained(raw), atol=EXACT)
    with pytest.raises(PartError, match="NaN or infinity") as caught:
        native.call("choice.space", space=str(space), raw=[[1e39] * theirs.dim])
    assert caught.value.status == BAD_INPUT


@pytest.mark.parametrize("n_words", [24, 30])
def test_compact_catalogues_are_read_as_by_the_sdk(native: Native, tmp_path: Path, n_words: int) -> None:
    path = compact_file(tmp_path, n_words=n_words)
    theirs = load_compact(path)
    ours = native.call("choice.catalogue", catalogue=str(path))
    np.testing.assert_array_equal(ours["coefficients"], theirs.coefficients)
    np.testing.assert_array_equal(ours["noise"], theirs.noise)
    assert (tuple(ours["names"]), ours["adapter_bytes"]) == (theirs.names, theirs.adapter_bytes.tolist())


def compact_file(folder: Path, *, n_words: int = 24, n: int = 40) -> Path:
    """A compact catalogue by chance, as `Catalogue.export_compact` writes it."""
    whole = whole_of(n, n_words=n_words)
    header = {"format": "xpert-catalogue-compact", "version": 1, "base_digest": whole.base_digest, "n_probes": whole.n_probes}
    header |= {"space_digest": whole.space_digest, "words": list(whole.words)}
    arrays: dict[str, Any] = {"ids": whole.ids, "kib": whole.kib, "strength": np.ones(n, np.float16)}
    if n_words <= 24:
        arrays["coefficients"] = np.rint(whole.coefficients * 4096).astype(np.int16)
    else:
        scale = np.abs(whole.coefficients).max(1).astype(np.float16)
        arrays["scale"] = scale
        arrays["coefficients"] = np.rint(whole.coefficients / scale[:, None] * 127).clip(-127, 127).astype(np.int8)
    arrays |= shared_arrays(whole.noise, whole.base_coefficients, whole.base_unexplained)
    path = folder / f"c{n_words}-{n}.xcat.safetensors"
    path.write_bytes(seal(header, arrays)[0])
    return path


def crowd(candidates: Candidates, *, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a user near one pLLM or between two, and of the base's answers."""
    chance = np.random.default_rng(seed)
    first, second = candidates.coefficients[chance.integers(len(candidates.names), size=2)]
    share = chance.choice([1.0, 0.5, 0.2])
    style = share * first + (1 - share) * second * chance.choice([0, 1])
    spread = np.sqrt(np.diag(candidates.noise))
    base = candidates.base_coefficients + chance.normal(size=(n, len(style))) * spread
    return base + style + chance.normal(size=base.shape) * spread / 3, base


@pytest.mark.parametrize("n_words", [24, 30])
def test_selections_are_the_sdks(native: Native, tmp_path: Path, n_words: int) -> None:
    path = compact_file(tmp_path, n_words=n_words)
    candidates = load_compact(path)
    found = [crowd(candidates, n=n, seed=seed) for seed, n in enumerate([1, 2, 5, 20, 60] * 8)]
    for paired in (False, True):
        sets = [{"texts": texts.tolist()} | ({"base": base.tolist()} if paired else {}) for texts, base in found]
        ours = native.call("choice.select", catalogue=str(path), sets=sets, seed=5, min_confidence=0.6)
        reasons = set()
        for mine, (texts, base) in zip(ours, found, strict=True):
            theirs = select(texts, candidates, base=base if paired else None, seed=5, min_confidence=0.6)
            same(mine, theirs)
            reasons.add(theirs.reason.split(":")[0])
        assert len(reasons) > 2


@pytest.mark.parametrize(("n", "max_sources"), [(40, 2), (9, 3), (2, 4), (1, 1)])
def test_merge_proposals_are_the_sdks(native: Native, tmp_path: Path, n: int, max_sources: int) -> None:
    path = compact_file(tmp_path, n=n)
    candidates = load_compact(path)
    sets = [crowd(candidates, n=12, seed=seed)[0] for seed in range(6)]
    ours = native.call(
        "choice.select", catalogue=str(path), sets=[{"texts": s.tolist()} for s in sets], merge=True, max_sources=max_sources
    )
    for mine, texts in zip(ours, sets, strict=True):
        value = texts.mean(0) - candidates.base_coefficients
        theirs = solve_merge(value, candidates, n_texts=12, max_sources=max_sources)
        merge = mine["merge"]
        assert [(s["name"], s["weight"]) for s in merge["sources"]] == [(s.name, s.weight) for s in theirs.recipe.sources]
        assert (merge["single"], merge["wins"]) == (theirs.single, theirs.wins)
        numbers = [merge["distance"], merge["single_distance"], *merge["coefficients"]]
        assert numbers == pytest.approx([theirs.distance, theirs.single_distance, *theirs.coefficients], rel=1e-7)


def test_merges_of_too_many_are_refused(native: Native, tmp_path: Path) -> None:
    path = compact_file(tmp_path, n=3000)
    texts = [[0.1] * 24]
    for max_sources, message in ((2, "too many sets"), (5, "1 to 4 sources")):
        with pytest.raises(PartError, match=message) as caught:
            native.call("choice.select", catalogue=str(path), sets=[{"texts": texts}], merge=True, max_sources=max_sources)
        assert caught.value.status == BAD_INPUT


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("cells")
    found = cut(whole_of(5000), evenly)
    (folder / "index").write_bytes(found.index)
    paths = []
    for number in range(len(found.members)):
        paths.append(folder / f"cell-{number}")
        paths[-1].write_bytes(found.named(f"{found.digest[:16]}-{number}"))
    return folder / "index", paths


def test_cells_are_the_sdks(native: Native, cells: tuple[Path, list[Path]]) -> None:
    index = CellIndex.load(cells[0])
    values = np.random.default_rng(1).normal(0, 0.3, (200, 24))
    ours = native.call("choice.cells", index=str(cells[0]), values=values.tolist())
    theirs = index.nearest(values).tolist()
    assert [cell["number"] for cell in ours] == theirs
    assert len(set(theirs)) > 1
    assert [cell["name"] for cell in ours] == [index.cell_name(number) for number in theirs]
    candidates = load_cell(cells[1][1], index, 1)
    read = native.call("choice.catalogue", catalogue=str(cells[1][1]), index=str(cells[0]))
    np.testing.assert_array_equal(read["coefficients"], candidates.coefficients)
    np.testing.assert_array_equal(read["centre"], index.crowd)
    texts = crowd(candidates, n=20, seed=4)[0]
    mine = native.call("choice.select", catalogue=str(cells[1][1]), index=str(cells[0]), sets=[{"texts": texts.tolist()}])
    same(mine[0], select(texts, candidates))


def test_a_cell_of_another_index_is_refused(native: Native, cells: tuple[Path, list[Path]], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(cut(whole_of(3000, seed=9), evenly).index)
    with pytest.raises(PartError, match="is cell 0 of the index") as caught:
        native.call("choice.catalogue", catalogue=str(cells[1][0]), index=str(other))
    assert caught.value.status == MISMATCH
    with pytest.raises(
        PartError, match="is not a file of format 'xpert-catalogue-compact': found \"xpert-catalogue-cell\""
    ) as caught:
        native.call("choice.catalogue", catalogue=str(cells[1][0]))
    assert caught.value.status == BAD_FILE
    with pytest.raises(PartError, match="There is no file") as caught:
        native.call("choice.catalogue", catalogue=str(tmp_path / "none"))
    assert caught.value.status == NOT_FOUND


def test_another_space_is_refused_and_novelty_counts(native: Native, space: Path, tmp_path: Path) -> None:
    made = StyleSpace.load(space)
    of = {
        style: surface_statistics([t.text for t in stylebank() if t.style == style][:20])
        for style in ("neutral", "poetic", "tweet")
    }
    options = {"base_digest": "b" * 64, "adapter_bytes": 5000}
    entries = [
        explain_pairs(s, of["neutral"], of[s], made, adapter_digest=d * 64, **options)
        for s, d in (("poetic", "1"), ("tweet", "2"))
    ]
    path = tmp_path / "c.xcat.safetensors"
    Catalogue.of(entries).export_compact(path)
    candidates = load_compact(path)
    sets = [surface_statistics([t.text for t in users() if t.user == user]) for user in sorted({t.user for t in users()})]
    ours = native.call("choice.choose", space=str(space), catalogue=str(path), sets=[{"raw": raw.tolist()} for raw in sets])
    for mine, raw in zip(ours, sets, strict=True):
        new = novelty(made, raw, candidates)
        assert mine["novelty"] == pytest.approx(new, rel=1e-8)
        same(mine, select(made.coefficients(raw), candidates, novelty=new))
    with pytest.raises(PartError, match="was made in the style space 555555555555") as caught:
        native.call("choice.choose", space=str(space), catalogue=str(compact_file(tmp_path)), sets=[{"raw": sets[0].tolist()}])
    assert caught.value.status == MISMATCH


def rewrite(path: Path, out: Path, change: Any) -> Path:
    """Write a file again with something changed and a digest that fits, as somebody who wants to be believed would."""
    arrays, metadata = read_safetensors(path)
    header = json.loads(metadata["xpert"])
    change(header, arrays)
    out.write_bytes(seal({k: v for k, v in header.items() if k != "digest"}, arrays)[0])
    return out


BREAKS: dict[str, Any] = {
    "its words": lambda h, a: h.update(words=[]),
    "not all different": lambda h, a: h.update(words=["x"] * 24),
    "n_probes": lambda h, a: h.update(n_probes=0),
    "'n_probes' is 1.5": lambda h, a: h.update(n_probes=1.5),
    "its 'base_digest' is no text": lambda h, a: h.pop("base_digest"),
    "no array 'noise'": lambda h, a: a.pop("noise"),
    "its noise has": lambda h, a: a.update(noise=a["noise"][:-1]),
    "no covariance": lambda h, a: a.update(noise=-a["noise"]),
    "'base' is F32": lambda h, a: a.update(base=a["base"][:-1]),
    "NaN or infinity": lambda h, a: a.update(base=a["base"] * np.float32("nan")),
    "'ids' is U8": lambda h, a: a.update(ids=a["ids"][:-1]),
    "'kib' is F32": lambda h, a: a.update(kib=a["kib"].astype(np.float32)),
    "'coefficients' is F32": lambda h, a: a.update(coefficients=a["coefficients"].astype(np.float32)),
    "holds no pLLM": lambda h, a: a.update(coefficients=a["coefficients"][:0], ids=a["ids"][:0], kib=a["kib"][:0]),
    "has the version 0": lambda h, a: h.update(version=0),
    "has version 2": lambda h, a: h.update(version=2),
}


@pytest.mark.parametrize("message", BREAKS)
def test_broken_catalogues_are_refused(native: Native, tmp_path: Path, message: str) -> None:
    path = rewrite(compact_file(tmp_path), tmp_path / "broken", BREAKS[message])
    with pytest.raises(PartError, match=message) as caught:
        native.call("choice.catalogue", catalogue=str(path))
    assert caught.value.status == BAD_FILE


def test_cut_and_changed_files_are_refused(native: Native, cells: tuple[Path, list[Path]], space: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    calls: list[tuple[Path, Any]] = [
        (cells[0], lambda path: native.call("choice.cells", index=path, values=[[0.0] * 24])),
        (cells[1][0], lambda path: native.call("choice.catalogue", catalogue=path, index=str(cells[0]))),
        (space, lambda path: native.call("choice.space", space=path, raw=[])),
    ]
    for path, call in calls:
        whole = path.read_bytes()
        call(str(path))
        for _ in range(60):
            broken = bytearray(whole)
            at = int(chance.integers(len(broken)))
            broken[at] ^= 1 << int(chance.integers(8))
            (tmp_path / "x").write_bytes(broken if chance.integers(2) else whole[:at])
            with pytest.raises(PartError) as caught:
                call(str(tmp_path / "x"))
            assert caught.value.status in {BAD_FILE, MISMATCH}, str(caught.value)


def test_broken_spaces_are_refused(native: Native, space: Path, tmp_path: Path) -> None:
    arrays, metadata = read_safetensors(space)
    header = json.loads(metadata["xpert"])
    for change, message in (
        ({"ridge": 0}, "ridge not above 0"),
        ({"sentence_weight": "x"}, "'sentence_weight' is no number"),
        ({"n_sentence": -1}, "n_sentence"),
        ({"n_sentence": 2}, "'whitening' is F32"),
        ({"n_sentence": 10**9}, "columns, at most"),
        ({"words": ["a"]}, "'axes' is F32"),
        ({"encoder": 1}, "'encoder' is no text"),
        ({"name": "other"}, "was changed after"),
    ):
        write_safetensors(tmp_path / "x", arrays, {"xpert": json.dumps(header | change)})
        with pytest.raises(PartError, match=message) as caught:
            native.call("choice.space", space=str(tmp_path / "x"), raw=[])
        assert caught.value.status == BAD_FILE
