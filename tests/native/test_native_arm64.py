"""The native core as phones and boards have it, built for arm64 and run by QEMU, beside this machine's: ./taskw mobile:arm64.

Kernels differ between processors, so numbers agree within a tolerance; what is chosen and answered is the same, and a run that
was killed goes on to the same bits on arm64 too.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from native_cases import NATIVE, Native
from safetensors.numpy import load_file

from xpert.core.data import stylebank
from xpert_mobile.bundle.making import BundleOptions, export_bundle, export_encoder_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # the first test may build the core twice

A53, A76, NEWEST = "cortex-a53", "cortex-a76", "max"
"""Phones without dot products, phones with them, and all that QEMU knows: vectors of any length too, whose emulation is slow."""

STEPS = 6


@dataclass(frozen=True)
class Machine:
    """A built core and how its programs are started."""

    folder: Path
    before: tuple[str, ...] = ()

    def command(self, program: str, *words: object) -> list[str]:
        return [*self.before, str(self.folder / "bin" / program), *map(str, words)]

    def ask(self, *words: object) -> dict[str, Any]:
        """Run xpert-device and return its result."""
        command = self.command("xpert-device", *words, "--json")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def part(self, name: str, **arguments: Any) -> Any:
        """Ask an inner part once."""
        asked = json.dumps({"call": name, "arguments": arguments}) + "\n"
        done = subprocess.run(self.command("xpert-parts"), input=asked, capture_output=True, text=True, check=True, timeout=900)
        return json.loads(done.stdout)["result"]


@pytest.fixture(scope="session")
def emulated() -> dict[str, Machine]:
    """The core for arm64 on every processor."""
    done = subprocess.run([sys.executable, NATIVE / "tools" / "arm64.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {cpu: Machine(Path(found["folder"]), (*found["emulator"], "-cpu", cpu)) for cpu in (A53, A76, NEWEST)}


@pytest.fixture(scope="session")
def here(native: Native) -> Machine:
    return Machine(native.folder)


@pytest.fixture(scope="session")
def phone(emulated: dict[str, Machine]) -> Machine:
    return emulated[A76]


@pytest.fixture(scope="session")
def chooser(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """A bundle that chooses."""
    return export_encoder_bundle(tmp_path_factory.mktemp("chooser") / "chooser.xpert", cache=programs).folder


@pytest.fixture(scope="session", params=["float32", "int8"])
def starter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """The starter's base as a bundle that answers and trains; short texts, as every product is emulated."""
    options = BundleOptions(precision=request.param, rank=4, batch=2, lengths=(16,), generate=48)
    out = tmp_path_factory.mktemp("starter") / f"{request.param}.xpert"
    return export_bundle("starter:base", out, options=options, with_encoder=False, cache=programs).folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    records = [{"text": f"Answer {i}: Grüße 🦉.", **({"prompt": f"Question {i}?"} if i % 2 else {})} for i in range(6)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def training(bundle: Path, out: Path, texts: Path) -> list[object]:
    sizes = {"max-steps": STEPS, "batch-size": 2, "rank": 4, "checkpoint-every": 2, "eval-every": 3, "held-out": 0.2}
    options = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    return ["train", bundle, out, "--texts", texts, *options, "--learning-rate", 5e-3]


@pytest.fixture(scope="session")
def trained(here: Machine, phone: Machine, starter: Path, texts: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The same run on both machines: folder of the adapter, and result."""
    found = {}
    for name, machine in (("here", here), ("phone", phone)):
        out = starter.parent / name
        found[name] = (out, machine.ask(*training(starter, out, texts)))
    return found


def test_vectors_are_those_of_this_machine(here: Machine, phone: Machine, chooser: Path) -> None:
    given = [*golden.odd_texts()[:6], *(text.text for text in stylebank()[:2])]
    ours, theirs = (
        np.array(machine.part("choice.encode", texts=given, bundle=str(chooser))["vectors"]) for machine in (phone, here)
    )
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("style", ["poetic", "formal", "neutral"])
def test_choices_are_those_of_this_machine(here: Machine, phone: Machine, chooser: Path, tmp_path: Path, style: str) -> None:
    path = tmp_path / "texts.jsonl"
    given = [text.text for text in stylebank() if text.style == style][:4]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in given))
    words = ["select", chooser, golden.CATALOGUE, "--texts", path, "--merge"]
    ours, theirs = phone.ask(*words), here.ask(*words)
    for key in ("choice", "abstain", "reason", "n_texts"):
        assert ours[key] == theirs[key]
    for key in ("confidence", "similarity", "expected_saving", "misfit", "novelty"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-4), key
    assert [match["name"] for match in ours["matches"][:3]] == [match["name"] for match in theirs["matches"][:3]]


@pytest.mark.parametrize("cpu", [A53, A76, NEWEST])
def test_answers_are_those_of_this_machine(emulated: dict[str, Machine], here: Machine, starter: Path, cpu: str) -> None:
    words = ["generate", starter, "Tell me about the sea. 🦉", "--max-new-tokens", 8]
    ours, theirs = emulated[cpu].ask(*words), here.ask(*words)
    for key in ("text", "n_prompt", "n_new", "ended"):
        assert ours[key] == theirs[key]


def test_training_loses_as_on_this_machine(trained: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    (_, ours), (_, theirs) = trained["phone"], trained["here"]
    assert (ours["steps"], ours["n_train"], ours["n_held_out"]) == (STEPS, theirs["n_train"], theirs["n_held_out"])
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert [step for step, _ in ours["held_out"]] == [step for step, _ in theirs["held_out"]]
    assert [loss for _, loss in ours["held_out"]] == pytest.approx([loss for _, loss in theirs["held_out"]], rel=1e-4)
    assert ours["losses"][-1] < ours["losses"][0]


def test_an_adapter_of_one_machine_serves_the_other(
    trained: dict[str, tuple[Path, dict[str, Any]]], here: Machine, phone: Machine, starter: Path
) -> None:
    adapters = [load_file(trained[name][0] / "adapter_model.safetensors") for name in ("phone", "here")]
    assert adapters[0].keys() == adapters[1].keys()
    for name, values in adapters[1].items():
        # As a whole: AdamW makes steps of the same length from gradients that are all rounding, so single numbers may differ.
        assert np.linalg.norm(adapters[0][name] - values) <= 1e-3 * np.linalg.norm(values), name
    words = ["generate", starter, "Question 1?", "--adapter", trained["phone"][0], "--max-new-tokens", 6]
    assert phone.ask(*words)["text"] == here.ask(*words)["text"]


def test_a_killed_run_goes_on_to_the_same_bits(
    trained: dict[str, tuple[Path, dict[str, Any]]], phone: Machine, starter: Path, texts: Path
) -> None:
    whole, result = trained["phone"]
    out = starter.parent / "killed"
    words = training(starter, out, texts)
    with subprocess.Popen(phone.command("xpert-device", *words), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 3 "):
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    resumed = phone.ask(*words)
    assert resumed["resumed_from"] > 0
    assert (resumed["losses"], resumed["held_out"], resumed["digest"]) == (result["losses"], result["held_out"], result["digest"])
    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
