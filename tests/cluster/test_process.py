"""The operator's process says what it lacks, and loads no model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xpert.core.errors import InputError
from xpert_operator.settings import parse


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "xpert_operator", *options]
    env = {**os.environ, "KUBECONFIG": "/nowhere", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)


def test_a_cluster_that_is_not_known() -> None:
    done = run("--server", "http://localhost:1")
    assert (done.returncode, done.stderr.count("\n")) == (InputError.exit_code, 1)
    assert "set KUBECONFIG to a file" in done.stderr


def test_no_server() -> None:
    done = run()
    assert done.returncode == 2 and "--server" in done.stderr


def test_the_environment_counts_where_no_option_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SERVER": "http://a", "NAMESPACES": "one,two", "WORKERS": "3", "TOKEN_FILE": "/t"}.items():
        monkeypatch.setenv(f"XPERT_OPERATOR_{name}", value)
    found = parse([])
    assert (found.server, found.namespaces, found.workers, found.token_file) == ("http://a", ("one", "two"), 3, Path("/t"))
    given = parse(["--server", "http://b", "--namespace", "three", "--workers", "5"])
    assert (given.server, given.namespaces, given.workers) == ("http://b", ("three",), 5)
    assert given.identity and given.lease == ""
    assert given.explanations == 32
    for wrong in ("0", "257"):
        monkeypatch.setenv("XPERT_OPERATOR_EXPLANATIONS", wrong)
        with pytest.raises(SystemExit):
            parse([])


def test_it_loads_no_model() -> None:
    code = (
        "import sys, xpert_operator.__main__\n"
        "print(sorted({'torch', 'transformers', 'peft', 'sentence_transformers', 'ray', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
