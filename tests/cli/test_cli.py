"""The command line on the real starter models, as a newcomer types it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xpert.cli.app import app
from xpert.core.data import users
from xpert.core.errors import InputError, MismatchError, NotFoundError, XpertError
from xpert.core.merging import MergeRecipe
from xpert.models.encoders import minilm_folder
from xpert.models.names import resolve

RUNNER = CliRunner()


def run(*words: str | Path) -> dict[str, object] | list[dict[str, object]]:
    result = RUNNER.invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, object] | list[dict[str, object]] = json.loads(result.stdout)
    return found


def fails(error: type[XpertError], match: str, *words: str | Path) -> None:
    with pytest.raises(error, match=match):
        RUNNER.invoke(app, [*map(str, words)], catch_exceptions=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    with (folder / "mine.jsonl").open("w") as stream:
        for user in [u for u in users() if u.user == "u02"][:20]:
            stream.write(json.dumps({"text": user.text, "prompt": user.prompt}) + "\n")
    return folder


@pytest.mark.slow
def test_from_adapters_to_a_merged_choice(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPERT_CACHE", str(work / "cache"))
    explained = run("explain", "starter:poetic", "starter:concise", "starter:tweet", "-b", "starter:base", "-o", work / "entries")
    assert [entry["name"] for entry in explained] == ["poetic", "concise", "tweet"]  # type: ignore[index]
    book = work / "c.catalogue.json"
    entries = sorted((work / "entries").iterdir())
    assert run("catalogue", "add", book, *entries) == {"entries": ["concise", "poetic", "tweet"]}
    assert run("catalogue", "show", book, "poetic")["name"] == "poetic"  # type: ignore[call-overload]
    assert len(run("catalogue", "list", book)) == 3
    small = work / "c.xcat.safetensors"
    assert run("catalogue", "export", book, "-o", small)["bytes_a_pllm"] <= 64  # type: ignore[call-overload, operator]
    chosen = run("select", work / "mine.jsonl", "-c", book)
    assert chosen["matches"][0]["name"] == "poetic"  # type: ignore[call-overload, index]
    (work / "few.txt").write_text("Hi there.\nHi there.\n")
    assert "warnings" in run("select", work / "few.txt", "-c", book)
    compact = run("select", work / "mine.jsonl", "-c", small)
    assert compact["matches"][0]["probability"] == pytest.approx(chosen["matches"][0]["probability"], abs=0.02)  # type: ignore[call-overload, index]
    solved = run("merge", "--for", work / "mine.jsonl", "-c", book)
    assert "poetic" in solved["sources"]  # type: ignore[call-overload, operator]
    for name in ("poetic", "concise", "tweet"):  # a phone knows digests alone, and names its folders as it likes
        shutil.copytree(resolve(f"starter:{name}"), work / "phone" / f"my-{name}")
    found = run("merge", "--for", work / "mine.jsonl", "-c", small, "--adapters", work / "phone", "-o", work / "fit")
    assert str(work / "phone" / "my-poetic") in found["sources"]  # type: ignore[call-overload, operator]
    shutil.rmtree(work / "phone" / "my-poetic")
    fails(
        NotFoundError,
        "None of the 2 adapters",
        *("merge", "--for", work / "mine.jsonl", "-c", book, "--adapters", work / "phone", "-o", work / "fit"),
    )
    made = run("merge", "starter:poetic=0.6", "starter:tweet=0.5", "-b", "starter:base", "-o", work / "mix")
    assert made["error"] == 0  # type: ignore[call-overload]
    cut = run("merge", "starter:poetic=0.6", "starter:tweet=0.5", "--rank", "2", "-o", work / "short")
    assert MergeRecipe.load(work / "short" / "recipe.json").error == pytest.approx(cut["error"])  # type: ignore[call-overload]
    assert 0 < cut["error"] < 1  # type: ignore[call-overload, operator]
    run("merge", "starter:poetic=0.6", "starter:tweet=0.5", "-b", "starter:base", "--full", "-o", work / "whole")
    recipe = MergeRecipe.load(work / "whole" / "recipe.json")
    assert [(s.name, s.weight) for s in recipe.sources] == [("poetic", 0.6), ("tweet", 0.5)]
    again = run("explain", work / "mix", "-b", "starter:base")
    top = sorted(zip(again[0]["coefficients"], again[0]["words"], strict=True))[-3:]  # type: ignore[index, call-overload]
    assert {"poetic", "tweet"} & {word for _, word in top}
    table = RUNNER.invoke(app, ["catalogue", "list", str(book)], catch_exceptions=False)
    assert "poetic" in table.stdout


@pytest.mark.slow
def test_personalize_from_a_pllm(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPERT_CACHE", str(work / "cache"))
    done = run("personalize", work / "mine.jsonl", "--from", "starter:poetic", "-o", work / "own", "--max-steps", "10")
    assert done["steps"] == 10  # type: ignore[call-overload]
    assert (work / "own" / "adapter_model.safetensors").exists()
    assert min(loss for _, loss in done["held_out"]) < done["held_out"][0][1]  # type: ignore[call-overload, index]


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_goes_on(work: Path, interruptible: None) -> None:
    command = [sys.executable, "-m", "xpert", "personalize", str(work / "mine.jsonl"), "-o", str(work / "cut")]
    running = subprocess.Popen([*command, "--max-steps", "2000"], stderr=subprocess.PIPE, text=True)
    checkpoint = work / ".cut.checkpoint.safetensors"
    while not checkpoint.exists() and running.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert [path for path in work.iterdir() if "cut" in path.name] == [checkpoint]


@pytest.mark.slow
def test_pairs_and_spaces(work: Path) -> None:
    from xpert.core.data import stylebank

    bank = {(t.style, t.id): t for t in stylebank()}
    rows = [
        {"prompt": bank["neutral", f"b{i}"].prompt, "base": bank["neutral", f"b{i}"].text, "pllm": bank["tweet", f"b{i}"].text}
        for i in range(121, 141)
    ]
    (work / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = run("explain", "--pairs", work / "pairs.jsonl", "--name", "mine")
    assert found[0]["name"] == "mine"  # type: ignore[index, call-overload]
    coefficients = dict(zip(found[0]["words"], found[0]["coefficients"], strict=True))  # type: ignore[index, call-overload]
    assert max(coefficients, key=coefficients.__getitem__) == "tweet"
    exemplars = work / "ex.jsonl"
    lines = [
        {"id": f"{i}", "prompt": "p", "style": style, "text": f"{word} number {i}{mark}"}
        for i in range(6)
        for style, word, mark in (("neutral", "Plain", "."), ("loud", "HEY", "!!!"))
    ]
    exemplars.write_text("\n".join(map(json.dumps, lines)))
    built = run("space", "build", "-o", work / "loud.space.safetensors", "--exemplars", exemplars, "--name", "loud")
    assert [w["word"] for w in built["words"]] == ["loud"]  # type: ignore[call-overload]
    mine = run("space", "build", "-o", work / "m", "--exemplars", exemplars, "--encoder", minilm_folder())
    assert str(mine["encoder"]).count("@") == 1  # type: ignore[call-overload]
    assert mine["digest"] != built["digest"]  # type: ignore[call-overload]
    explained = ("explain", "--pairs", work / "pairs.jsonl", "--space", work / "m")
    assert run(*explained, "--encoder", minilm_folder())[0]["words"] == ["loud"]  # type: ignore[index, call-overload]
    fails(MismatchError, "encoder", *explained)
    fails(InputError, "--encoder runs on torch", *explained, "--encoder", minilm_folder(), "--engine", "executorch")
    assert run("space", "show", work / "loud.space.safetensors")["digest"] == built["digest"]  # type: ignore[call-overload]
    assert len(run("space", "show")["words"]) == 24  # type: ignore[call-overload]


def test_wrong_usage_says_what_to_do(work: Path) -> None:
    fails(InputError, "Give either adapters with --base", "explain")
    fails(InputError, "Give either ADAPTER=WEIGHT", "merge")
    fails(InputError, "no ADAPTER=WEIGHT", "merge", "starter:poetic")
    fails(InputError, "no ADAPTER=WEIGHT", "merge", "starter:poetic=much")
    fails(NotFoundError, "no file", "catalogue", "list", work / "none.json")
    fails(InputError, "no example user u99", "demo", "--user", "u99", "-o", work / "d")
    fails(InputError, "holds no records", "bench", "report", work)
    (work / "bad.jsonl").write_text('{"id": "1"}\n')
    fails(InputError, "line 1", "space", "build", "-o", work / "x", "--exemplars", work / "bad.jsonl")


@pytest.mark.slow
def test_errors_reach_the_shell_with_code_and_json(work: Path) -> None:
    command = [sys.executable, "-m", "xpert", "catalogue", "list", str(work / "none.json")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == NotFoundError.exit_code
    assert plain.stderr.startswith("error:")
    machine = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(machine.stdout)["error"]["code"] == "not_found"
    usage = subprocess.run([sys.executable, "-m", "xpert", "selectt"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
