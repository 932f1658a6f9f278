"""The commands that ask a server, as a publisher and a phone's owner type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xpert.cli.app import app
from xpert.cli.output import Output
from xpert.cli.parts import open_candidates
from xpert.client.fake import FakeServer, Fault
from xpert.core.errors import AccessError, InputError, UnavailableError
from xpert.core.space import StyleSpace

RUNNER = CliRunner()


def run(*words: str | Path, text: str | None = None) -> Any:
    result = RUNNER.invoke(app, [*map(str, words), "--json"], input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def shown(*words: str | Path) -> str:
    result = RUNNER.invoke(app, [*map(str, words)], catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_push_look_and_pull(fake: FakeServer, url: str, adapter: Path, tmp_path: Path) -> None:
    fake.add("starter", "poetic", words={"poetic": 0.9})
    pushed = run("push", adapter, "-b", "starter", "-s", url, "--wait")
    assert pushed["name"] == "mine"
    assert [pllm["name"] for pllm in run("ls", "-s", url)] == ["mine", "poetic"]
    assert [pllm["name"] for pllm in run("ls", "-s", url, "-b", "starter", "--word", "poetic:0.8")] == ["poetic"]
    assert "poetic 0.90" in shown("ls", "-s", url)
    out = run("pull", "mine", "-b", "starter", "-s", url, "-o", tmp_path / "out")["path"]
    assert {path.name for path in Path(out).iterdir()} == {path.name for path in adapter.iterdir()}
    assert run("pull", "mine", "-b", "starter", "-s", url, "-o", tmp_path / "again", "--offline")


def test_jobs_and_what_makes_them(fake: FakeServer, url: str) -> None:
    fake.state.job_steps = 2
    job = fake.add("starter", "poetic").job
    fake.add("starter", "concise")
    assert run("job", job, "-s", url, "--wait")["state"] == "succeeded"
    assert run("server", "merge", "mix", "poetic=0.5", "concise=0.5", "-b", "starter", "-s", url, "--wait")["kind"] == "merge"
    again = run("server", "explain", "poetic", "-b", "starter", "-s", url)
    assert run("job", again["id"], "-s", url, "--cancel")["state"] == "cancelled"
    assert len(run("jobs", "-s", url)) == 5
    assert "cancelled" in shown("jobs", "-s", url)
    assert run("jobs", "-s", url)[0]["id"] == again["id"], "those asked for last first"
    assert run("jobs", "-b", "another", "-s", url) == []


def test_style_spaces(url: str, tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "prompt": "p", "style": style, "text": f"{style} {n}"} for n in (1, 2) for style in ("neutral", "brisk")
    ]
    exemplars, probes, file = tmp_path / "mine.jsonl", tmp_path / "probes.txt", tmp_path / "default.space.safetensors"
    exemplars.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    probes.write_text("What?\nWho?\nWhen?\nWhy?\n")
    built = run("server", "space", "build", exemplars, "--name", "mine", "--probes", probes, "-s", url, "--wait")
    assert (built["kind"], built["state"]) == ("space", "succeeded")
    StyleSpace.default().save(file)
    assert run("server", "space", "add", file, "-s", url)[0]["digest"] == StyleSpace.default().digest
    assert {space["name"] for space in run("server", "space", "list", "-s", url)} == {"mine", StyleSpace.default().name}
    assert "brisk" in shown("server", "space", "list", "-s", url)


def test_log_in_once(fake: FakeServer, url: str, tmp_path: Path) -> None:
    fake.tokens |= {"secret": "publish"}
    with pytest.raises(AccessError):
        run("server", "login", url, text="wrong\n")
    assert not (tmp_path / "config" / "xpert" / "token").exists()
    kept = Path(run("server", "login", url, text="secret\n")["token_file"])
    assert kept.read_text() == "secret\n"
    assert run("server", "status")["server"] == url
    fake.add("starter", "poetic")
    assert [pllm["name"] for pllm in run("ls")] == ["poetic"]
    assert "starter" in shown("server", "status")
    kept.chmod(0o644)
    with pytest.raises(AccessError, match="chmod"):
        run("ls")
    kept.chmod(0o600)
    assert run("server", "login", url, "--token-file", kept)["bases"] == ["starter"]


def test_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Which server"):
        run("ls")
    result = RUNNER.invoke(app, ["pull", "mine", "-s", "http://127.0.0.1:1"])
    assert result.exit_code == 2, "the base is missing"
    with pytest.raises(UnavailableError, match="offline"):
        run("pull", "mine", "-b", "starter", "-s", "http://127.0.0.1:1", "--offline")
    with pytest.raises(InputError, match="WORD:LEAST"):
        run("ls", "-s", "http://127.0.0.1:1", "--word", "poetic:much")


def test_a_server_s_catalogue_for_selection(fake: FakeServer, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake.add("starter", "poetic", words={"poetic": 0.9})
    place = f"{url}/v1/catalogues/starter"
    assert open_candidates(place, Output()).names == ("poetic",)
    fake.faults += [Fault(status=503, headers={"Retry-After": "999"})]
    assert open_candidates(place, Output()).names == ("poetic",)
    assert "from the cache" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="/v1/catalogues/BASE"):
        open_candidates(url, Output())


def test_tokens_and_the_log_of_writes(fake: FakeServer, url: str) -> None:
    made = run("server", "token", "add", "phones", "--days", "9", "-s", url)
    ops = shown("server", "token", "add", "ops", "--scope", "publish", "-s", url).splitlines()[0]
    assert ops == [*fake.state.tokens.values()][1].secret
    listed = run("server", "token", "list", "-s", url)
    assert {(token["name"], token["scope"]) for token in listed} == {("phones", "read"), ("ops", "publish")}
    assert made["secret"] not in shown("server", "token", "list", "-s", url)
    run("server", "token", "revoke", made["id"], "-s", url)
    assert [token["name"] for token in run("server", "token", "list", "-s", url)] == ["ops"]
    assert [entry["method"] for entry in run("server", "audit", "-s", url, "-n", "2")] == ["DELETE", "POST"]
    assert f"/v1/tokens/{made['id']}" in shown("server", "audit", "-s", url)
