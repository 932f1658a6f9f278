"""The C++ programs under the compiler's sanitizers: parsers on seeded mutations of good files, threads on the C API, whole runs.

A sanitizer ends a program at the first read behind an end, use after close, undefined operation or race, with exit status not 0.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_seeds import fuzz_seeds
from native_cases import NATIVE, Native, tool

pytestmark = pytest.mark.slow

SUPPRESSIONS = NATIVE / "tests" / "thread_sanitizer.supp"
INPUTS = 20_000
"""Mutations a target; more by XPERT_FUZZ_INPUTS."""


def built(sanitize: str) -> Iterator[Native]:
    native = Native(tool("build").Build(tests=True, sanitize=sanitize).build())
    yield native
    native.close()


@pytest.fixture(scope="module")
def addressed() -> Iterator[Native]:
    """Under the sanitizers of addresses and of undefined behaviour."""
    yield from built("address,undefined")


@pytest.fixture(scope="module")
def threaded() -> Iterator[Native]:
    """Under the sanitizer of threads."""
    yield from built("thread")


def ran(native: Native, program: str, *words: object) -> str:
    environment = {
        **os.environ,
        # ExecuTorch and the Rust libraries keep what they made once until the process ends.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={SUPPRESSIONS}",
    }
    command = [str(native.program(program)), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, small_bundle: Path) -> dict[str, list[Path]]:
    """Good files of every parser."""
    return fuzz_seeds(tmp_path_factory.mktemp("seeds"), small_bundle)


@pytest.mark.parametrize(
    ("target", "share"), [("choice_files", 1.0), ("manifest", 1.0), ("safetensors", 1.0), ("tokenizer", 0.1)]
)
def test_parsers_stand_mutated_files(addressed: Native, seeds: dict[str, list[Path]], target: str, share: float) -> None:
    inputs = int(share * int(os.environ.get("XPERT_FUZZ_INPUTS", INPUTS)))
    said = ran(addressed, f"fuzz-{target}", inputs, 20261126, *seeds[target])
    assert said == f"{inputs + len(seeds[target])} inputs\n"


@pytest.mark.parametrize("kind", ["addressed", "threaded"])
def test_engines_are_used_and_closed_by_many_threads(
    request: pytest.FixtureRequest, small_bundle: Path, tmp_path: Path, kind: str
) -> None:
    native: Native = request.getfixturevalue(kind)
    found = json.loads(ran(native, "threads_test", small_bundle, 5, tmp_path))
    assert found["answers"] + found["cancelled"] + found["closed"] == 2 * 5 * (1 + 3 * 2)


@pytest.mark.parametrize("kind", ["addressed", "threaded"])
def test_a_run_and_its_answer_are_clean(request: pytest.FixtureRequest, small_bundle: Path, tmp_path: Path, kind: str) -> None:
    native: Native = request.getfixturevalue(kind)
    texts, out = tmp_path / "texts.jsonl", tmp_path / "out"
    texts.write_text("".join(json.dumps({"text": f"Answer {i}: Grüße 🦉.", "prompt": f"Question {i}?"}) + "\n" for i in range(6)))
    sizes = ["--max-steps", 4, "--batch-size", 2, "--rank", 4, "--checkpoint-every", 2, "--json"]
    trained = json.loads(ran(native, "xpert-device", "train", small_bundle, out, "--texts", texts, *sizes))
    assert trained["steps"] == 4
    words = ["generate", small_bundle, "Why? 🦉", "--adapter", out, "--max-new-tokens", 4, "--json"]
    assert 0 < json.loads(ran(native, "xpert-device", *words))["n_new"] <= 4
