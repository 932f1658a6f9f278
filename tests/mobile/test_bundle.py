"""Bundles: made from small checkpoints in the real format, compared with torch, and refused once a bit of them differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpert.core.errors import FileFormatError, InputError, MismatchError, NotFoundError, TrainingError
from xpert.core.space import StyleSpace
from xpert_mobile.bundle import making
from xpert_mobile.bundle.base_part import BundledBase, quantized
from xpert_mobile.bundle.making import BundleOptions, export_bundle
from xpert_mobile.bundle.manifest import MANIFEST, Bundle, entry_of, read_bundle

SMALL = BundleOptions(rank=4, batch=2, lengths=(32,), generate=32)


@pytest.fixture(scope="module")
def made(llama: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(llama, tmp_path_factory.mktemp("bundles") / "llama.xpert", options=SMALL, cache=cache)


@pytest.fixture
def copied(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "copy.xpert"))


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


@pytest.mark.slow
def test_a_bundle_holds_everything_and_agrees_with_torch(made: Bundle) -> None:
    bundle = read_bundle(made.folder)
    worst = bundle.manifest["report"]["largest_difference"]
    assert 0 < max(worst.values()) < 1e-4
    assert bundle.manifest["space"]["digest"] == StyleSpace.default().digest
    assert bundle.geometry.n_layers == 2
    assert bundle.n_bytes == sum(p.stat().st_size for p in made.folder.rglob("*") if p.is_file() and p.name != MANIFEST)


@pytest.mark.slow
@pytest.mark.parametrize(("lengths", "generate", "compared"), [((32,), 0, {"loss", "gradient"}), ((), 32, {"logits"})])
def test_a_bundle_may_only_train_or_only_answer(
    llama: Path, cache: Path, tmp_path: Path, lengths: tuple[int, ...], generate: int, compared: set[str]
) -> None:
    options = BundleOptions(rank=4, batch=2, lengths=lengths, generate=generate)
    bundle = export_bundle(llama, tmp_path / "b.xpert", options=options, with_encoder=False, cache=cache)
    report = bundle.manifest["report"]
    assert report["largest_difference"].keys() == compared
    assert max(report["largest_difference"].values()) < 1e-4
    assert ("keys_and_values" in report["memory"]) == bool(generate)
    assert [name.split("-")[0] for name in bundle.manifest["files"] if name.endswith(".pte")] == [
        "programs/train" if lengths else "programs/generate"
    ]


@pytest.mark.slow
def test_qwen_in_half_precision_and_int8_in_blocks_of_the_vocabulary(
    qwen: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "WHOLE_VOCABULARY", 2000)
    options = BundleOptions(precision="int8", rank=4, batch=2, lengths=(32,), generate=32)
    bundle = export_bundle(qwen, tmp_path / "q.xpert", options=options, with_encoder=False, cache=cache)
    assert bundle.manifest["programs"]["train"][0]["vocabulary_block"] == 1024  # the last of five blocks is filled up
    assert "space" not in bundle.manifest
    report = bundle.manifest["report"]
    assert max(report["largest_difference"].values()) < 1e-4
    assert 1e-4 < report["rounding"]["gradient"] < 0.1
    base = BundledBase(bundle)
    assert {array.dtype.name for array in base.arrays.values()} == {"float32", "int8"}
    assert dict(base.float_weights())["model.layers.1.mlp.up_proj.weight"].shape == (48, 32)


@pytest.mark.slow
def test_transposed_weights_stand_beside_the_others_and_change_nothing(
    llama: Path, made: Bundle, cache: Path, tmp_path: Path
) -> None:
    options = BundleOptions(rank=4, batch=2, lengths=(32,), generate=0, transposed=True)
    bundle = read_bundle(export_bundle(llama, tmp_path / "t.xpert", options=options, with_encoder=False, cache=cache).folder)
    base = BundledBase(bundle)
    copies = {name for name in base.arrays if name.endswith("weight_transposed")}
    assert len(copies) == 2 * 7
    for name in copies:
        np.testing.assert_array_equal(base.arrays[name], base.arrays[name.removesuffix("_transposed")].T)
    assert set(dict(base.float_weights())) == set(dict(BundledBase(made).float_weights()))
    assert max(bundle.manifest["report"]["largest_difference"].values()) < 1e-4
    with pytest.raises(FileFormatError, match="its layer_weights are not those of its geometry"):
        read_bundle(edited(bundle.folder, lambda m: m["base"].update(transposed=False)))


def test_int8_is_off_by_half_a_step_at_most_and_keeps_rows_of_zeros() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    weight[3] = 0
    values, scale = quantized(weight)
    assert np.abs(values * scale - weight).max() <= scale.max() / 2 * 1.001
    assert not values[3].any()
    assert np.abs(values).max() == 127


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(format="other"), "not a file of format"),
        (lambda m: m.update(minimum_runtime="99.0"), "needs version 99.0"),
        (lambda m: m["files"].pop("base/tokenizer.json"), "base/tokenizer.json is not listed"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "leads out of it"),
        (lambda m: m["files"].update({"gone": {"bytes": 1, "sha256": "0" * 64}}), "gone is missing"),
        (lambda m: m["base"]["geometry"].update(n_layers=3), "lack model.layers.2"),
        (lambda m: m["base"]["geometry"].update(hidden=64), "its geometry says"),
        (lambda m: m["base"].update(layer_weights=[]), "layer_weights"),
        (lambda m: m["base"].update(precision="int4"), "precision is 'int4'"),
        (lambda m: m.pop("space"), "encoder and space"),
        (lambda m: m.update(base=3), "manifest is broken"),
    ],
)
def test_a_changed_manifest_is_refused(copied: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        read_bundle(edited(copied, change))


@pytest.mark.slow
def test_a_changed_cut_or_added_file_is_refused(copied: Path) -> None:
    weights = copied / "base/model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + bytes(4))
    with pytest.raises(FileFormatError, match="digest differs"):
        read_bundle(copied)
    read_bundle(copied, with_weights=False)  # what it says it leaves out
    weights.write_bytes(data[:-4])
    with pytest.raises(FileFormatError, match="bytes, expected"):
        read_bundle(copied, with_weights=False)
    weights.write_bytes(data)
    (copied / "stray").symlink_to(copied / MANIFEST)
    with pytest.raises(FileFormatError, match="stray is not listed"):
        read_bundle(copied)
    (copied / "stray").unlink()
    (copied / MANIFEST).write_bytes((copied / MANIFEST).read_bytes()[:-9])
    with pytest.raises(FileFormatError, match="not valid JSON"):
        read_bundle(copied)
    (copied / MANIFEST).unlink()
    with pytest.raises(NotFoundError, match="is no bundle"):
        read_bundle(copied)


@pytest.mark.slow
def test_what_deviates_from_torch_is_not_kept(
    llama: Path, cache: Path, tmp_path: Path, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.xpert"
    monkeypatch.setattr(making, "TOLERANCE", 1e-12)
    with pytest.raises(TrainingError, match="deviates from torch"):
        export_bundle(llama, out, options=SMALL, cache=cache)
    assert not list(tmp_path.iterdir())
    assert entry_of(made.folder / MANIFEST)["bytes"] > 0


def test_what_cannot_be_bundled_is_refused_before_anything_is_exported(llama: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int4"):
        BundleOptions(precision="int4")
    with pytest.raises(InputError, match="neither trains nor answers"):
        BundleOptions(lengths=(), generate=0)
    with pytest.raises(InputError, match="prefix is trained at"):
        BundleOptions(lengths=(), prefix=4)
    with pytest.raises(InputError, match="does not train"):
        BundleOptions(lengths=(), transposed=True)
    with pytest.raises(InputError, match="context is 128"):
        export_bundle(llama, tmp_path / "a.xpert", options=BundleOptions(generate=256), cache=cache)
    with pytest.raises(InputError, match="128 tokens, 130 were"):
        export_bundle(llama, tmp_path / "a.xpert", options=BundleOptions(lengths=(120,), generate=0, prefix=10), cache=cache)
    foreign = tmp_path / "site"
    foreign.mkdir()
    (foreign / MANIFEST).write_text("{}")
    with pytest.raises(FileFormatError, match="not a file of format"):
        export_bundle(llama, foreign, options=SMALL, cache=cache)


@pytest.mark.slow
def test_a_space_of_another_encoder_is_refused(llama: Path, cache: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    space = replace(StyleSpace.default(), encoder="other+surface-1")
    with pytest.raises(MismatchError, match="--encoder"):
        export_bundle(llama, tmp_path / "a.xpert", options=SMALL, space=space, cache=cache)
    assert not list(tmp_path.iterdir())
