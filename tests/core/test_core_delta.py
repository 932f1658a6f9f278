"""Deltas of compact catalogues: whatever changed, the phone ends with the very bytes of the full one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpert.core.catalogue import Catalogue
from xpert.core.delta import apply_delta, export_delta
from xpert.core.errors import FileFormatError, MismatchError
from xpert.core.explanation import Explanation, explain_pairs
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.space import StyleSpace

SPACE = StyleSpace.default()
RAW = np.random.default_rng(0).normal(size=(2, 6, SPACE.dim)).astype(np.float32)
PATTERN = explain_pairs("x", RAW[0], RAW[1], SPACE, base_digest="b", adapter_digest="0" * 64, adapter_bytes=9)


def entry(name: str, life: int) -> Explanation:
    digest = hashlib.sha256(f"{name} {life}".encode()).hexdigest()
    return replace(PATTERN, name=name, adapter_digest=digest, coefficients=tuple(c + life for c in PATTERN.coefficients))


def export(path: Path, pllms: dict[str, int]) -> Path:
    Catalogue.of(entry(name, life) for name, life in pllms.items()).export_compact(path)
    return path


def delta_between(folder: Path, old: dict[str, int], new: dict[str, int]) -> tuple[Path, Path, Path]:
    before, after = export(folder / "old", old), export(folder / "new", new)
    changed = [row for row, name in enumerate(sorted(new)) if old.get(name) != new[name]]
    removed = {entry(name, life).adapter_digest[:16] for name, life in old.items() if new.get(name) != life}
    export_delta(after, folder / "delta", changed=changed, removed=removed)
    return before, after, folder / "delta"


PLLMS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2), min_size=1)


@given(PLLMS, PLLMS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_delta_leads_to_the_bytes_of_the_full_catalogue(tmp_path: Path, old: dict[str, int], new: dict[str, int]) -> None:
    before, after, delta = delta_between(tmp_path, old, new)
    apply_delta(before, delta, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == after.read_bytes()


def test_a_delta_is_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    before, _, delta = delta_between(tmp_path, {"a": 0, "b": 0}, {"a": 0, "c": 0})
    other = export(tmp_path / "other", {"a": 1, "b": 0})
    with pytest.raises(MismatchError, match="whole catalogue"):
        apply_delta(other, delta, tmp_path / "out")
    with pytest.raises(FileFormatError):
        apply_delta(before, before, tmp_path / "out")
    with pytest.raises(FileFormatError):
        apply_delta(delta, delta, tmp_path / "out")
    arrays, metadata = read_safetensors(delta)
    write_safetensors(tmp_path / "far", {**arrays, "positions": arrays["positions"] + 9}, metadata)
    with pytest.raises(FileFormatError, match="no place"):
        apply_delta(before, tmp_path / "far", tmp_path / "out")
    write_safetensors(tmp_path / "less", {name: array for name, array in arrays.items() if name != "removed"}, metadata)
    with pytest.raises(FileFormatError, match="does not fit"):
        apply_delta(before, tmp_path / "less", tmp_path / "out")
    write_safetensors(tmp_path / "headless", arrays, {"xpert": '{"format": "xpert-catalogue-delta", "version": 1}'})
    with pytest.raises(FileFormatError, match="leads to"):
        apply_delta(before, tmp_path / "headless", tmp_path / "out")
    assert not (tmp_path / "out").exists()
