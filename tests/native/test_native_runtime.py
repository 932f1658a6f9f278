"""The runtime on the native core, as the SDK sees it: the same embeddings and answers as in Python, and resumed runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from native_cases import Native

from xpert.core.errors import FileFormatError, InputError, NotFoundError
from xpert.core.runtime import PersonalizeOptions, find_runtime, phone_runtime
from xpert.core.texts import PersonalText
from xpert.models.adapters import read_adapter
from xpert.models.names import resolve
from xpert_mobile.bundle.manifest import MANIFEST
from xpert_mobile.native import NativeRuntime, answering_bundle, encoder_bundle, opened, training_bundle
from xpert_mobile.native_library import VARIABLE, NativeEngine
from xpert_mobile.runtime import ExecuTorchRuntime

TEXTS = [
    PersonalText(f"Answer {i}: {'yes, sure' if i % 2 else 'no way'}.", f"Question {i}?" if i % 3 else None) for i in range(8)
]
OPTIONS = PersonalizeOptions(max_steps=6, batch_size=4, eval_every=2, learning_rate=5e-3, patience=9)


@pytest.fixture(scope="module")
def runtime(native: Native) -> Iterator[NativeRuntime]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(native.folder))
        yield NativeRuntime()


@pytest.fixture(scope="module")
def cache(programs: Path) -> Path:
    return programs


@pytest.mark.slow
def test_embeddings_are_those_of_python(runtime: NativeRuntime, cache: Path) -> None:
    texts = ["Hello!", "Thou art more lovely.", "🙂 שלום", "a" * 3000]
    ours = runtime.sentence_encoder(cache=cache).encode(texts)
    theirs = ExecuTorchRuntime().sentence_encoder(cache=cache).encode(texts)
    assert (ours * theirs).sum(1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


@pytest.mark.slow
def test_fine_tuning_lowers_the_loss_and_its_adapter_changes_answers(runtime: NativeRuntime, cache: Path, tmp_path: Path) -> None:
    base = resolve("starter:base")
    told: list[int] = []
    found = runtime.personalize(
        base, TEXTS, tmp_path / "adapter", options=OPTIONS, cache=cache, progress=lambda step, *_: told.append(step)
    )
    assert told == list(range(1, 7))
    assert found.steps == 6
    assert found.held_out[0][0] == 0
    assert min(loss for _, loss in found.held_out) < found.held_out[0][1]
    assert read_adapter(found.adapter).modules
    plain, tuned = (
        runtime.generate(base, ["Question 1?"], adapter=a, max_new_tokens=12, cache=cache) for a in (None, found.adapter)
    )
    assert plain == ExecuTorchRuntime().generate(base, ["Question 1?"], max_new_tokens=12, cache=cache)
    assert tuned == ExecuTorchRuntime().generate(base, ["Question 1?"], adapter=found.adapter, max_new_tokens=12, cache=cache)


@pytest.mark.slow
def test_a_run_that_its_callback_ended_goes_on_to_the_same_bits(runtime: NativeRuntime, cache: Path, tmp_path: Path) -> None:
    base = resolve("starter:base")
    whole = runtime.personalize(base, TEXTS, tmp_path / "whole", options=OPTIONS, cache=cache)

    def stop(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime.personalize(base, TEXTS, tmp_path / "cut", options=OPTIONS, cache=cache, progress=stop)
    assert not (tmp_path / "cut").exists()
    resumed = runtime.personalize(base, TEXTS, tmp_path / "cut", options=OPTIONS, cache=cache)
    assert read_adapter(resumed.adapter).digest == read_adapter(whole.adapter).digest
    with pytest.raises(InputError):
        runtime.personalize(base, [], tmp_path / "none", cache=cache)


@pytest.mark.slow
def test_an_interrupt_that_comes_while_the_core_computes_ends_the_run(
    runtime: NativeRuntime, cache: Path, tmp_path: Path, interruptible: None
) -> None:
    stepped, told = threading.Event(), []

    def interrupt() -> None:
        stepped.wait()
        os.kill(os.getpid(), signal.SIGINT)

    def on_step(step: int, *_: object) -> None:
        told.append(step)
        stepped.set()

    sender = threading.Thread(target=interrupt, daemon=True)  # where no step comes, it waits on
    sender.start()
    options = replace(OPTIONS, max_steps=500, patience=500)
    with pytest.raises(KeyboardInterrupt):
        runtime.personalize(resolve("starter:base"), TEXTS, tmp_path / "cut", options=options, cache=cache, progress=on_step)
    sender.join()
    assert len(told) < 500
    assert [path.name for path in tmp_path.iterdir()] == [".cut.checkpoint.safetensors"]


@pytest.mark.slow
def test_a_bundle_that_was_changed_is_refused_with_its_reason(runtime: NativeRuntime, cache: Path) -> None:
    bundle = encoder_bundle(cache)
    data = (bundle / MANIFEST).read_bytes()
    try:
        (bundle / MANIFEST).write_bytes(data.replace(b'"version": 1', b'"version": 9', 1))
        with pytest.raises(FileFormatError, match="9"):
            NativeEngine(bundle)
    finally:
        (bundle / MANIFEST).write_bytes(data)
    assert find_runtime("native").name == "native"


@pytest.mark.slow
def test_a_bundle_without_a_program_says_which(native: Native, cache: Path, tmp_path: Path) -> None:
    base = resolve("starter:base")
    trains = training_bundle(base, TEXTS, rank=4, batch=2, cache=cache)
    answers = answering_bundle(base, ["Question 1?"], max_new_tokens=12, rank=4, cache=cache)
    with opened(trains, threads=1) as engine, pytest.raises(NotFoundError, match="no program to answer"):
        engine.generate("Question 1?", {"max_new_tokens": 4})
    request = {"out": str(tmp_path / "a"), "max_steps": 1, "batch_size": 2, "rank": 4}
    with opened(answers, threads=1) as engine, pytest.raises(NotFoundError, match="no program to train"):
        engine.personalize(["Question 1?"], ["Answer."], request)


def test_a_phone_s_runtime_is_native_where_it_is_built(native: Native, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(native.folder))
    assert phone_runtime().name == "native"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XPERT_TOOLS", str(tmp_path))
    assert phone_runtime().name == "executorch"
