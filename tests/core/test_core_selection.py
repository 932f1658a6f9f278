from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xpert.core.catalogue import BYTES_A_PLLM, Catalogue, load_compact
from xpert.core.encoder import Vectors
from xpert.core.errors import FileFormatError, InputError, MismatchError, NotFoundError, XpertError
from xpert.core.explanation import Explanation, explain_pairs
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.merging import MergeRecipe, Source, solve_merge
from xpert.core.posterior import centre
from xpert.core.selection import SavingModel, choose, differences, select
from xpert.core.space import StyleSpace
from xpert.core.texts import PersonalText


def test_explanation_names_the_style(catalogue: Catalogue) -> None:
    for entry in catalogue.entries:
        first = entry.top(1)[0]
        assert first.word == entry.name
        assert first.lower <= first.coefficient <= first.upper
        assert first.held_up
        assert 0 < entry.residual_share < 1


def test_noise_does_not_hold_up(space: StyleSpace, raw: dict[str, Vectors]) -> None:
    entry = explain_pairs("same", raw["neutral"][:20], raw["neutral"][20:], space)
    assert sum(entry.held_up) <= 3
    with pytest.raises(InputError, match="at least 4"):
        explain_pairs("few", raw["neutral"][:2], raw["poetic"][:2], space)


def test_entries_survive_saving(catalogue: Catalogue, tmp_path: Path) -> None:
    entry = catalogue["poetic"]
    entry.save(tmp_path / "e.json")
    assert Explanation.load(tmp_path / "e.json") == entry
    good = entry.as_dict()
    for change in (
        {"words": ["a"]},
        {"strength": "x"},
        {"n_probes": 0},
        {"coefficients": [float("inf")] * len(entry.words)},
        {"covariance": []},
        {"adapter_bytes": 2**63},
        {"adapter_digest": "z" * 64},
        {"adapter_digest": "ab"},
    ):
        (tmp_path / "e.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(FileFormatError, match="no usable entry"):
            Explanation.load(tmp_path / "e.json")


def test_catalogue_keeps_one_base_and_one_space(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path / "c.json")
    assert Catalogue.load(tmp_path / "c.json") == catalogue
    entry = catalogue["poetic"]
    with pytest.raises(MismatchError, match="base cccc"):
        catalogue.add(replace(entry, base_digest="c" * 64))
    with pytest.raises(MismatchError, match="style space"):
        catalogue.add(replace(entry, space_digest="c" * 64))
    with pytest.raises(MismatchError, match="3 unexplained statistics"):
        catalogue.add(replace(entry, name="new", base_unexplained=(0.0,) * 3))
    with pytest.raises(MismatchError, match="other words"):
        catalogue.add(replace(entry, words=tuple(reversed(entry.words))))
    with pytest.raises(InputError, match="'poetic' already"):
        catalogue.add(replace(entry, strength=1.0))
    assert catalogue.add(entry) == catalogue
    assert catalogue.add(replace(entry, strength=1.0), replace_existing=True)["poetic"].strength == 1.0
    with pytest.raises(NotFoundError, match="It has: concise"):
        catalogue["none"]
    with pytest.raises(InputError, match="at least one"):
        Catalogue.of([])
    (tmp_path / "c.json").write_text('{"format": "xpert-catalogue", "version": 1, "entries": [1]}')
    with pytest.raises(FileFormatError, match="no entries"):
        Catalogue.load(tmp_path / "c.json")


def test_compact_form_fits_and_keeps_what_selection_needs(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "c.xcat.safetensors"
    assert catalogue.export_compact(path) <= BYTES_A_PLLM
    found, whole = load_compact(path), catalogue.candidates
    np.testing.assert_allclose(found.coefficients, whole.coefficients, atol=2e-4)
    np.testing.assert_allclose(found.noise, whole.noise, rtol=1e-5, atol=1e-7)
    assert found.names[0] == catalogue.entries[0].adapter_digest[:16]
    assert (found.adapter_bytes >= whole.adapter_bytes).all()
    with pytest.raises(InputError, match="without an adapter"):
        Catalogue.of([replace(catalogue.entries[0], adapter_digest="")]).export_compact(path)


def test_compact_form_of_many_words_uses_bytes(catalogue: Catalogue, tmp_path: Path) -> None:
    def widen(entry: Explanation, k: int) -> Explanation:
        rng = np.random.default_rng(0)
        row = tuple(rng.normal(size=k))
        return replace(
            entry,
            words=tuple(f"w{i}" for i in range(k)),
            **dict.fromkeys(("coefficients", "lower", "upper", "base_coefficients"), row),
            held_up=(True,) * k,
            covariance=tuple(map(tuple, np.eye(k))),
        )

    wide = Catalogue.of([widen(e, 46) for e in catalogue.entries])
    assert wide.export_compact(tmp_path / "c.safetensors") <= BYTES_A_PLLM
    np.testing.assert_allclose(load_compact(tmp_path / "c.safetensors").coefficients, wide.candidates.coefficients, atol=0.02)
    with pytest.raises(InputError, match="at most 64"):
        Catalogue.of([widen(e, 60) for e in catalogue.entries]).export_compact(tmp_path / "d.safetensors")


def test_broken_compact_files_are_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    catalogue.export_compact(path)
    arrays, metadata = read_safetensors(path)
    nan = np.full_like(arrays["noise"], np.nan)
    broken = [
        {**arrays, "noise": nan},
        {**arrays, "ids": arrays["ids"][:2]},
        {**arrays, "base": arrays["base"][:2]},
        {**arrays, "base_unexplained": np.zeros((2, 2), np.float32)},
        {k: v for k, v in arrays.items() if k != "coefficients"},
    ]
    for wrong in broken:
        write_safetensors(path, wrong, metadata)
        with pytest.raises(FileFormatError, match="changed after it was written"):
            load_compact(path)
    header = {**json.loads(metadata["xpert"]), "words": []}
    write_safetensors(path, arrays, {"xpert": json.dumps(header)})
    with pytest.raises(FileFormatError, match="changed after it was written"):
        load_compact(path)


@pytest.mark.parametrize("paired", [False, True])
def test_each_style_finds_its_pllm(catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors], *, paired: bool) -> None:
    base = space.coefficients(raw["neutral"][20:]) if paired else None
    for name in catalogue.candidates.names:
        found = select(space.coefficients(raw[name][20:]), catalogue.candidates, base=base)
        assert found.choice == name
        assert found.confidence > 0.9
        assert found.similarity > 0.7
        assert found.expected_saving > 0.4
        assert found.margin > 0.8
        assert sum(m.probability for m in found.matches) == pytest.approx(1)
        assert found.words[0].word == name


def test_fewer_texts_in_the_style_lower_similarity(catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors]) -> None:
    styles = list(catalogue.candidates.names)
    for name in ("tweet", "informative"):
        rest = np.concatenate([raw[s][30:32] for s in styles if s != name])
        mixed = np.concatenate([raw[name][20:30], rest])
        found = select(space.coefficients(mixed), catalogue.candidates)
        assert found.matches[0].name == name
        assert 0.3 < found.similarity < 0.8
        assert found.expected_saving < 0.5


def test_choose_goes_from_texts_to_a_choice(catalogue: Catalogue, space: StyleSpace, encoder: object) -> None:
    from xpert.core.data import PROBE_PROMPTS, stylebank

    own = [PersonalText(t.text, t.prompt) for t in stylebank() if t.style == "tweet" and t.id in PROBE_PROMPTS][:10]
    plain = [t.text for t in stylebank() if t.style == "neutral" and t.id in PROBE_PROMPTS][:10]
    for answers in (None, plain):
        found = choose(own, catalogue.candidates, space=space, encoder=encoder, base_answers=answers)  # type: ignore[arg-type]
        assert found.choice == "tweet"
        assert found.paired == (answers is not None)
    with pytest.raises(InputError, match="no texts"):
        choose([], catalogue.candidates, space=space, encoder=encoder)  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="made in the style space"):
        choose(own, catalogue.candidates, space=replace(space, version=9), encoder=encoder)  # type: ignore[arg-type]


def test_bad_coefficients_are_refused(catalogue: Catalogue) -> None:
    k = len(catalogue.words)
    for texts, base, error in (
        (np.zeros((0, k)), None, InputError),
        (np.zeros((2, k + 1)), None, MismatchError),
        (np.zeros((2, k)), np.zeros((1, k)), MismatchError),
        (np.full((2, k), np.nan), None, InputError),
    ):
        with pytest.raises(error):
            differences(texts, catalogue.candidates, base=base)


def test_saving_model_follows_the_papers_table() -> None:
    model = SavingModel(selection_cost=0.0)
    assert model.saving(0.9) == pytest.approx(0.817)
    assert model.saving(0.1) < 0.02


def test_merge_finds_the_weights_of_a_mix(catalogue: Catalogue) -> None:
    found = catalogue.candidates
    a, b = found.names.index("poetic"), found.names.index("concise")
    value = 0.6 * found.coefficients[a] + 0.5 * found.coefficients[b]
    proposal = solve_merge(value, found, n_texts=50, digests={"poetic": "d"})
    weights = {s.name: s.weight for s in proposal.recipe.sources}
    assert weights == pytest.approx({"poetic": 0.6, "concise": 0.5}, abs=1e-3)
    assert proposal.wins
    assert proposal.distance < 0.01 < proposal.single_distance
    np.testing.assert_allclose(proposal.coefficients, value, atol=1e-3)
    assert next(s for s in proposal.recipe.sources if s.name == "poetic").adapter_digest == "d"


def test_a_pure_style_needs_no_merge(catalogue: Catalogue) -> None:
    found = catalogue.candidates
    proposal = solve_merge(found.coefficients[0], found, n_texts=50)
    assert not proposal.wins
    assert [s.name for s in proposal.recipe.sources] == [found.names[0]]
    far = solve_merge(-3 * (found.coefficients[0] - centre(found)), found, n_texts=5)
    assert all(0 <= s.weight <= 1.25 for s in far.recipe.sources)
    with pytest.raises(InputError, match="at least one source"):
        solve_merge(found.coefficients[0], found, n_texts=5, max_sources=0)


def test_recipes_survive_saving(tmp_path: Path) -> None:
    recipe = MergeRecipe(base_digest="b", sources=(Source(name="a", adapter_digest="d", weight=0.5),))
    path = tmp_path / "r.json"
    for value in (recipe, replace(recipe, method="svd", rank=4)):
        value.save(path)
        assert MergeRecipe.load(path) == value
    good = json.loads(path.read_text())
    for change in (
        {"sources": []},
        {"method": "x"},
        {"rank": None},
        {"sources": [{"name": "a", "adapter_digest": "", "weight": "x"}]},
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(FileFormatError, match="no usable merge recipe"):
            MergeRecipe.load(path)


def test_a_weight_of_infinity_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    MergeRecipe(base_digest="b", sources=(Source(name="a", adapter_digest="d", weight=0.5),)).save(path)
    path.write_text(path.read_text().replace("0.5", "1e999"))
    with pytest.raises(XpertError):
        MergeRecipe.load(path)
