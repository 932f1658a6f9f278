from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpert.core.data import StyledText, axis_texts, levels
from xpert.core.decomposition import decompose
from xpert.core.encoder import JointEncoder, Vectors
from xpert.core.errors import FileFormatError, InputError, MismatchError
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.space import StyleSpace, build_space
from xpert.core.surface import SURFACE_NAMES, surface_statistics


@given(st.lists(st.text(max_size=300), max_size=5))
@settings(max_examples=150, deadline=None)
def test_surface_statistics_are_finite_for_any_text(texts: list[str]) -> None:
    found = surface_statistics(texts)
    assert found.shape == (len(texts), len(SURFACE_NAMES))
    assert np.isfinite(found).all()


def test_surface_statistics_measure_what_they_name() -> None:
    row = dict(zip(SURFACE_NAMES, surface_statistics(["Thou art late! Thou 😀 #art"])[0].tolist(), strict=True))
    assert row["log_words"] == pytest.approx(np.log(5))
    assert row["exclamations"] == 1
    assert row["emoji"] == row["hashtags"] == 2
    assert row["word:thou"] == pytest.approx(3 * (2 / 5) ** 0.5)
    assert surface_statistics([""]).any() == np.False_
    assert surface_statistics(["a b. " * 200_000]).shape == (1, len(SURFACE_NAMES))


def test_joint_encoder_puts_the_parts_side_by_side(encoder: object) -> None:
    class Sentence:
        name, dim = "s", 2

        def encode(self, texts: list[str]) -> Vectors:
            return np.ones((len(texts), 2), np.float32)

    joint = JointEncoder(Sentence())
    assert joint.encode(["a b"]).shape == (1, joint.dim)
    assert joint.encode([]).shape == (0, joint.dim)
    assert joint.name == "s+surface-1"
    np.testing.assert_array_equal(joint.encode(["a b"])[:, 2:], surface_statistics(["a b"]))


def test_exemplars_have_a_coefficient_of_about_one(space: StyleSpace, encoder: object) -> None:
    texts = axis_texts()
    raw = encoder.encode([t.text for t in texts])  # type: ignore[attr-defined]
    coefficients = space.coefficients(raw)
    style = np.array([t.style for t in texts])
    for word in ("tweet", "informative", "concise"):
        own = (coefficients[style == word].mean(0) - coefficients[style == "neutral"].mean(0))[space.words.index(word)]
        assert 0.7 < own < 1.15


def test_levels_grow_along_their_axis(space: StyleSpace, encoder: object) -> None:
    def mean(level: str) -> float:
        texts = [t.text for t in levels() if t.style == level]
        return float(space.coefficients(encoder.encode(texts)).mean(0)[space.words.index("elementary")])  # type: ignore[attr-defined]

    values = [mean(f"expertise-{i}") for i in range(1, 5)]
    assert values[0] > max(values[1:])


def test_save_and_load_give_the_same_space(space: StyleSpace, tmp_path: Path) -> None:
    path = tmp_path / "s.space.safetensors"
    space.save(path)
    loaded = StyleSpace.load(path)
    assert loaded.digest == space.digest
    assert loaded.words == space.words
    np.testing.assert_array_equal(loaded.axes, space.axes)
    assert replace(space, version=2).digest != space.digest


def test_default_space_ships_with_24_words() -> None:
    space = StyleSpace.default()
    assert len(space.words) == 24
    assert space.encoder == "all-MiniLM-L6-v2+surface-1"
    assert space.projection.shape == (space.dim, 24)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "Upgrade"),
        ({"format": "other"}, "not a file of format"),
        ({"words": ["a"]}, "axes is"),
        ({"words": []}, "expected 1 to"),
        ({"words": [1]}, "no list of texts"),
        ({"ridge": 0}, "ridge"),
        ({"n_sentence": -1}, "n_sentence"),
        ({"name": 3}, "name"),
        ({"encoder": "another"}, "was changed"),
    ],
)
def test_changed_headers_are_refused(space: StyleSpace, tmp_path: Path, change: dict[str, object], match: str) -> None:
    path = tmp_path / "s.safetensors"
    space.save(path)
    arrays, metadata = read_safetensors(path)
    write_safetensors(path, arrays, {"xpert": json.dumps({**json.loads(metadata["xpert"]), **change})})
    with pytest.raises(FileFormatError, match=match):
        StyleSpace.load(path)


def test_changed_arrays_are_refused(space: StyleSpace, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    space.save(path)
    arrays, metadata = read_safetensors(path)
    for name, value, match in (
        ("axes", arrays["axes"] * 2, "was changed"),
        ("axes", np.full_like(arrays["axes"], np.nan), "NaN"),
        ("scale", np.zeros_like(arrays["scale"]), "0 or below"),
        ("whitening", arrays["whitening"][:3], "expected float32"),
    ):
        write_safetensors(path, {**arrays, name: value}, metadata)
        with pytest.raises(FileFormatError, match=match):
            StyleSpace.load(path)
    write_safetensors(path, {k: v for k, v in arrays.items() if k != "axes"}, metadata)
    with pytest.raises(FileFormatError, match="axes"):
        StyleSpace.load(path)
    write_safetensors(path, arrays, {"xpert": "{"})
    with pytest.raises(FileFormatError, match="header"):
        StyleSpace.load(path)


def test_building_lists_all_problems(encoder: object) -> None:
    items = [
        StyledText("1", "p", "neutral", "plain"),
        StyledText("1", "p", "loud", "LOUD"),
        StyledText("1", "p", "loud", " "),
    ]
    with pytest.raises(InputError, match=r"1 texts in the style 'neutral'.*answered twice.*is empty"):
        build_space(items, encoder)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no style beside neutral"):
        build_space([StyledText(str(i), "p", "neutral", "t") for i in range(3)], encoder)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="and 5 more"):
        build_space([StyledText(str(i), "p", "neutral", "") for i in range(12)], encoder)  # type: ignore[arg-type]


def test_wrong_vectors_and_encoders_are_refused(space: StyleSpace, encoder: object) -> None:
    with pytest.raises(MismatchError, match="columns"):
        space.coefficients(np.zeros((2, 3)))
    with pytest.raises(InputError, match="NaN"):
        space.coefficients(np.full((1, space.dim), np.nan))
    with pytest.raises(MismatchError, match="was made with the encoder"):
        StyleSpace.default().check_encoder(encoder)  # type: ignore[arg-type]
    space.check_encoder(encoder)  # type: ignore[arg-type]


vectors = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=len(SURFACE_NAMES)))


@given(vectors, st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_parts_add_up_and_scale(space: StyleSpace, difference: np.ndarray, factor: float) -> None:
    whole = decompose(space, difference)
    np.testing.assert_allclose(whole.sub_vectors.sum(0) + whole.residual, difference, atol=1e-9)
    scaled = decompose(space, factor * difference)
    np.testing.assert_allclose(scaled.coefficients, factor * whole.coefficients, atol=1e-9)
    assert 0 <= whole.residual_share <= 1 + 1e-9
    assert scaled.strength == pytest.approx(abs(factor) * whole.strength, abs=1e-9)


def test_a_single_axis_is_found_again(space: StyleSpace) -> None:
    i = space.words.index("tweet")
    found = decompose(space, 0.8 * space.axes[i])
    assert found.coefficients.argmax() == i
    assert found.coefficients[i] == pytest.approx(0.8, abs=0.15)
    assert found.residual_share < 0.05


def test_decomposition_of_nothing_and_of_wrong_shapes(space: StyleSpace) -> None:
    nothing = decompose(space, np.zeros(space.dim))
    assert nothing.residual_share == nothing.strength == 0
    with pytest.raises(MismatchError, match="expected"):
        decompose(space, np.zeros(3))
