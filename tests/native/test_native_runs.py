"""Runs of the native engine that are killed, cancelled, out of disk or out of memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from base_cases import make_llama
from engine_cases import SAMPLES, empty_bundle
from mobile_cases import files_up_to
from native_cases import BAD_FILE, BAD_INPUT, STORAGE, Native, PartError

from xpert_mobile.bundle.making import BundleOptions, export_bundle

CANCELLED, TRAINING = 15, 9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> str:
    tmp = tmp_path_factory.mktemp("runs")
    options = BundleOptions(rank=4, batch=2, lengths=(64,), generate=64)
    return str(
        export_bundle(make_llama(tmp / "base"), tmp / "b.xpert", options=options, with_encoder=False, cache=programs).folder
    )


@contextmanager
def own_process(native: Native) -> Iterator[Native]:
    """A process that may be killed, or limited, without ending the others' calls."""
    own = Native(native.folder)
    try:
        yield own
    finally:
        own.close()


def train(native: Native, bundle: str, out: Path, **options: Any) -> Any:
    common = {"samples": SAMPLES, "rank": 3, "max_steps": 24, "checkpoint_every": 3, "patience": 99}
    return native.call("engine.train", bundle=bundle, out=str(out), **{**common, **options})


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(native: Native, bundle: str, tmp_path: Path) -> None:
    whole = train(native, bundle, tmp_path / "whole")
    steps = sorted(random.Random(0).sample(range(1, 24), 20))
    for step in steps:
        with own_process(native) as own, pytest.raises(AssertionError, match="exit status -9"):
            train(own, bundle, tmp_path / "cut", kill_at=step)
        assert not (tmp_path / "cut").exists()
    found = train(native, bundle, tmp_path / "cut")
    assert found["resumed_from"] == steps[-1] // 3 * 3
    for key in ("digest", "losses", "held_out", "steps"):
        assert found[key] == whole[key], key
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "cut"}


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_a_cancelled_run_goes_on(native: Native, bundle: str, tmp_path: Path, method: str) -> None:
    options = {"method": method, "max_steps": 8}
    whole = train(native, bundle, tmp_path / "whole", **options)
    for step in (2, 7):
        with pytest.raises(PartError, match=f"after step {step}") as caught:
            train(native, bundle, tmp_path / "cut", stop_at=step, **options)
        assert caught.value.status == CANCELLED
    found = train(native, bundle, tmp_path / "cut", **options)
    assert (found["resumed_from"], found["digest"]) == (7, whole["digest"])


def test_refuses_another_run_s_and_a_broken_checkpoint(native: Native, bundle: str, tmp_path: Path) -> None:
    with pytest.raises(PartError):
        train(native, bundle, tmp_path / "out", stop_at=2)
    with pytest.raises(PartError, match="with other texts") as other:
        train(native, bundle, tmp_path / "out", learning_rate=1e-4)
    assert other.value.status == TRAINING
    path = tmp_path / ".out.checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PartError, match="broken") as broken:
        train(native, bundle, tmp_path / "out")
    assert broken.value.status == BAD_FILE


def test_a_full_disk_leaves_what_was_there(native: Native, bundle: str, tmp_path: Path) -> None:
    with files_up_to(10_000), own_process(native) as own:
        with pytest.raises(PartError) as full:
            train(own, bundle, tmp_path / "out")
        assert full.value.status == STORAGE
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(PartError) as full:
            train(own, bundle, tmp_path / "out", max_steps=2)  # no checkpoint, the adapter alone
        assert full.value.status == STORAGE
        assert list(tmp_path.iterdir()) == []
    whole = train(native, bundle, tmp_path / "out", max_steps=2)
    with files_up_to(10_000), own_process(native) as own, pytest.raises(PartError):
        train(own, bundle, tmp_path / "out", max_steps=2, seed=1)
    assert native.call("engine.adapter", adapter=str(tmp_path / "out"))["digest"] == whole["digest"]


def test_stops_when_nothing_gets_better_or_the_target_is_reached(native: Native, bundle: str, tmp_path: Path) -> None:
    stale = train(native, bundle, tmp_path / "a", eval_every=1, patience=2, learning_rate=0.5)
    assert stale["steps"] < 24
    losses = [loss for _, loss in stale["held_out"]]
    assert min(losses[-2:]) >= min(losses[:-2])
    done = train(native, bundle, tmp_path / "b", target_loss=100.0)
    assert done["steps"] == 0


def test_refuses_options_and_folders_that_cannot_be(native: Native, bundle: str, tmp_path: Path) -> None:
    for options in ({"max_steps": 0}, {"held_out": 1.0}, {"learning_rate": 0.0}, {"batch_size": -1}, {"samples": []}):
        with pytest.raises(PartError) as caught:
            train(native, bundle, tmp_path / "out", **options)
        assert caught.value.status == BAD_INPUT, options
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("keep me")
    with pytest.raises(PartError, match="no adapter"):
        train(native, bundle, foreign)
    assert (foreign / "letter.txt").read_text() == "keep me"


def peak(native: Native, call: str, **arguments: Any) -> int:
    """Most memory of a process that does only this, in KiB."""
    with own_process(native) as own:
        own.call(call, **arguments)
        assert own._parts is not None
        status = Path(f"/proc/{own._parts.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_memory_does_not_grow_with_the_layers_weights(native: Native, tmp_path: Path, programs: Path) -> None:
    shallow, deep = (empty_bundle(tmp_path / str(n), programs, n_layers=n) for n in (4, 32))
    layers = 28 * (4 * 512 * 512 + 3 * 512 * 1536) * 4 // 1024
    common: dict[str, Any] = {"prompt": [1, 2, 3], "max_new_tokens": 4}
    answers = [peak(native, "engine.generate", bundle=str(path), **common) for path in (shallow, deep)]
    assert answers[1] - answers[0] < layers / 20
    assert peak(native, "engine.generate", bundle=str(deep), keep=True, **common) - answers[1] > layers / 2
    samples = [[[1, 2, 3, 4], 1]]
    runs = [
        peak(native, "engine.train", bundle=str(path), samples=samples, rank=2, batch_size=1, max_steps=1, held_out=0,
             out=str(tmp_path / f"out{i}"))
        for i, path in enumerate((shallow, deep))
    ]  # fmt: skip
    adapters = 28 * 2 * (4 * 1024 + 3 * 2048) * 4 * 7 // 1024  # values, best, gradients, moments, and a copy to write
    assert runs[1] - runs[0] < adapters + layers / 20


def test_pieces_of_one_text_are_never_on_both_sides(native: Native) -> None:
    chance = np.random.default_rng(0)
    for seed in range(60):
        groups = np.repeat(np.arange(40), chance.integers(1, 9, 40))[: int(chance.integers(5, 120))]
        found = native.call("engine.split", n=len(groups), groups=groups.tolist(), share=0.2, seed=seed)
        learnt, held_out = found["learnt"], found["held_out"]
        assert sorted(learnt + held_out) == list(range(len(groups)))
        assert not set(groups[learnt]) & set(groups[held_out])
        assert len(held_out) <= len(groups) / 2
        if len(set(groups)) >= 5:
            assert 0.2 * len(groups) - 1 < len(held_out) < 0.2 * len(groups) + 8


def test_texts_of_which_each_is_its_own_group_are_split_as_without(native: Native) -> None:
    for n, share in ((4, 0.2), (5, 0.2), (20, 0.33), (20, 0.9), (7, 0.0)):
        plain = native.call("engine.split", n=n, groups=[], share=share, seed=3)
        assert plain == native.call("engine.split", n=n, groups=list(range(100, 100 + n)), share=share, seed=3)
        assert len(plain["held_out"]) == (0 if n < 5 else round(share * n))


@pytest.mark.parametrize(
    ("groups", "sizes"), [([7] * 10, {10: 0}), ([1] * 8 + [2] * 2, {8: 2}), ([1] * 6 + [2] * 6 + [3] * 6, {12: 6})]
)
def test_few_long_texts_are_split_where_they_can_be(native: Native, groups: list[int], sizes: dict[int, int]) -> None:
    for seed in range(8):
        found = native.call("engine.split", n=len(groups), groups=groups, share=0.2, seed=seed)
        assert {len(found["learnt"]): len(found["held_out"])} == sizes


def test_groups_that_are_not_one_each_are_refused(native: Native, bundle: str, tmp_path: Path) -> None:
    with pytest.raises(PartError, match="There are 2 groups for 3 texts") as caught:
        native.call("engine.split", n=3, groups=[1, 2], share=0.2, seed=0)
    assert caught.value.status == BAD_INPUT


def test_a_run_goes_on_with_its_own_groups_only(native: Native, bundle: str, tmp_path: Path) -> None:
    n = len(SAMPLES)
    with pytest.raises(PartError) as caught:
        train(native, bundle, tmp_path / "out", groups=[i // 2 for i in range(n)], stop_at=5)
    assert caught.value.status == CANCELLED
    with pytest.raises(PartError, match="belongs to a run with other texts"):
        train(native, bundle, tmp_path / "out", groups=[i // 4 for i in range(n)])
    assert train(native, bundle, tmp_path / "out", groups=[i // 2 for i in range(n)])["resumed_from"] == 5
