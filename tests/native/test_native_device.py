"""The command xpert-device: what an app does, in processes that end, are interrupted, and go on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from native_cases import BAD_FILE, BAD_INPUT, MISMATCH, NOT_FOUND, UNTRUSTED, Native, device

from xpert.core.files import sha256_hex
from xpert.core.signing import SecretKey

CANCELLED = 15
pytestmark = pytest.mark.slow


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    records = [{"text": f"Answer {i}: Grüße 🦉.", **({"prompt": f"Question {i}?"} if i % 2 else {})} for i in range(6)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def training(small_bundle: Path, out: Path, texts: Path, *, steps: int) -> list[object]:
    return [
        "train",
        small_bundle,
        out,
        "--texts",
        texts,
        "--max-steps",
        steps,
        "--batch-size",
        2,
        "--rank",
        4,
        "--checkpoint-every",
        2,
    ]


def test_help_says_what_there_is(native: Native) -> None:
    menu = device(native, "--help").stdout
    for name in ("verify", "select", "cells", "train", "generate", "bench"):
        assert name in menu
        assert "--json" in device(native, name, "--help").stdout
    assert device(native, "--version").stdout == "0.1.0\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tarin"], "no command 'tarin'"),
        (["verify"], "Expected 1 arguments, found 0"),
        (["verify", "a", "b"], "found 2"),
        (["verify", "a", "--what"], "no option"),
        (["generate", "a", "b", "--seed", "many"], "expected a number"),
        (["generate", "a", "b", "--seed"], "lacks its value"),
    ],
)
def test_a_wrong_command_line_says_what_is_right(native: Native, words: list[str], said: str) -> None:
    done = device(native, *words, status=BAD_INPUT)
    assert said in done.stderr
    assert done.stdout == ""


def test_a_bundle_is_verified(native: Native, small_bundle: Path, tmp_path: Path) -> None:
    assert "is whole" in device(native, "verify", small_bundle).stdout
    assert json.loads(device(native, "verify", small_bundle, "--json").stdout)["n_files"] == 5
    key = SecretKey.random()
    (tmp_path / "key.pub").write_text(key.public_file())
    for given in (tmp_path / "key.pub", key.public()):
        assert "is not signed" in device(native, "verify", small_bundle, "--public-key", given, status=UNTRUSTED).stderr
    device(native, "verify", tmp_path, status=NOT_FOUND)
    (tmp_path / "manifest.json").write_text("{}")
    device(native, "verify", tmp_path, status=BAD_FILE)


def test_a_prompt_is_answered_piece_by_piece(native: Native, small_bundle: Path) -> None:
    words = ["generate", small_bundle, "Why? 🦉", "--max-new-tokens", 8]
    whole = json.loads(device(native, *words, "--json").stdout)
    assert 0 < whole["n_new"] <= 8
    assert device(native, *words).stdout.strip() == whole["text"].strip()
    assert device(native, *words, "--top-p", 7, status=BAD_INPUT).stderr.count("\n") == 1


def test_an_adapter_is_trained_and_used(native: Native, small_bundle: Path, texts: Path, tmp_path: Path) -> None:
    done = device(native, *training(small_bundle, tmp_path / "out", texts, steps=4), "--json")
    result = json.loads(done.stdout)
    assert (result["steps"], len(result["losses"])) == (4, 4)
    assert len(re.findall(r"^step \d of at most 4: loss \d+\.\d+", done.stderr, re.MULTILINE)) == 4
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    device(native, "generate", small_bundle, "Why?", "--adapter", tmp_path / "out", "--max-new-tokens", 4)
    device(native, "generate", small_bundle, "Why?", "--adapter", tmp_path / "none", status=NOT_FOUND)


def test_texts_that_cannot_be_used_are_named(native: Native, small_bundle: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    for line, said in (
        ("{}", "Line 2 .* no text"),
        ('{"text": "a", "prompt": 3}', "Line 2 .* prompt"),
        ("no", "Line 2 .* no text"),
        ('{"text": "a", "group": [1]}', "Line 2 .* group that is neither"),
        ('{"text": "a", "group": 0.5}', "Line 2 .* group that is neither"),
    ):
        texts.write_text(f'{{"text": "fine"}}\n{line}\n')
        done = device(native, *training(small_bundle, tmp_path / "out", texts, steps=1), status=BAD_INPUT)
        assert re.search(said, done.stderr)
    texts.write_text("\n")
    assert "holds no texts" in device(native, *training(small_bundle, tmp_path / "out", texts, steps=1), status=BAD_INPUT).stderr


def test_pieces_of_one_text_are_held_out_together(native: Native, small_bundle: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"

    def held_out(*groups: object) -> int:
        lines = [{"text": f"Piece {i}", **({} if group is None else {"group": group})} for i, group in enumerate(groups)]
        texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = device(native, *training(small_bundle, tmp_path / "out", texts, steps=1), "--held-out", 0.2, "--json")
        found: int = json.loads(done.stdout)["n_held_out"]
        return found

    alone = held_out(*[None] * 8)
    assert 0 < alone < 4
    assert held_out(*"abcdefgh") == alone
    assert held_out(*[7] * 4, *[-2] * 4) == 4
    assert held_out(*["a"] * 8) == 0
    assert held_out("a", *[None] * 7) == alone


def test_a_choice_needs_an_encoder(native: Native, small_bundle: Path, texts: Path) -> None:
    done = device(native, "select", small_bundle, "catalogue.safetensors", "--texts", texts, status=MISMATCH)
    assert "has no encoder" in done.stderr


def interrupted(native: Native, words: list[object], number: signal.Signals) -> None:
    """Start a run, and send a signal after its third step."""
    with subprocess.Popen([native.device, *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 3 "):
                process.send_signal(number)
                break
        process.stderr.read()
        process.wait(60)
    assert process.returncode == (CANCELLED if number == signal.SIGINT else -number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    native: Native, small_bundle: Path, texts: Path, tmp_path: Path, number: signal.Signals
) -> None:
    steps = 400
    whole = json.loads(
        device(native, *training(small_bundle, tmp_path / "whole", texts, steps=steps), "--patience", steps, "--json").stdout
    )
    words = [*training(small_bundle, tmp_path / "out", texts, steps=steps), "--patience", steps]
    interrupted(native, words, number)
    assert not (tmp_path / "out").exists()
    resumed = json.loads(device(native, *words, "--json").stdout)
    assert resumed["resumed_from"] > 0
    assert resumed["losses"] == whole["losses"]
    first, second = (sha256_hex((tmp_path / name / "adapter_model.safetensors").read_bytes()) for name in ("whole", "out"))
    assert first == second


def test_the_bench_gives_figures(native: Native, small_bundle: Path) -> None:
    figures = json.loads(device(native, "bench", small_bundle, "--tokens", 4, "--steps", 2, "--rank", 4, "--json").stdout)
    assert set(figures) == {"open_seconds", "tokens_per_second", "seconds_a_step", "peak_mebibytes"}
    assert min(figures.values()) > 0
