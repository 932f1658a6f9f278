"""What holds for the client as a whole: its weight, its documents, the ADR that it keeps to."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from textwrap import indent

import pytest
from documents import Block, blocks

import xpert.client
from xpert.client import AsyncClient, Client
from xpert.client.fake.routes import ROUTES

ROOT = Path(__file__).parents[2]
HEAVY = ("fastapi", "ray", "rich", "sklearn", "starlette", "torch", "transformers", "typer", "uvicorn", "xpert_services")
LONGEST_S = 120
"""Until an example is taken to hang: each ends within a few seconds."""
EXAMPLES = list(blocks(ROOT / "docs" / "client.md", "python"))
# Where signed addresses lead is the server's own business: the fake has a store of its own for them.
SIGNED = ("/v1/uploads/{digest}", "/v1/downloads/{digest}")


def test_it_loads_nothing_heavy() -> None:
    code = f"import sys, xpert.client, xpert.client.fake; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_it_when_it_is_used() -> None:
    code = "import sys, xpert.cli.app; print([name for name in ('httpx2', 'xpert.wire', 'xpert.client') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {name: list(signature(call).parameters) for name, call in vars(kind).items() if name[0] != "_" and callable(call)}

    assert methods(Client) == methods(AsyncClient)
    # What a method does is said once.
    said = {name: call.__doc__ for name, call in vars(AsyncClient).items() if name[0] != "_"}
    assert said == {name: f"See `Client.{name}`." for name in vars(Client) if name[0] != "_"}
    assert list(xpert.client.__all__) == sorted(xpert.client.__all__)


def test_the_fake_has_every_path_of_the_decision() -> None:
    rows = re.findall(r"^\| (`/.*?) \| (.*?) \|", (ROOT / "docs/adr/0006-rest.md").read_text(), re.MULTILINE)
    paths = [path for cell, _ in rows for path in re.findall(r"`(/[^`]*)`", cell) if path not in SIGNED]
    assert len(paths) > 15
    known = [pattern for _, pattern, *_ in ROUTES]
    missing = [p for p in paths if not any(k.fullmatch(re.sub(r"{\w+}", "x", p)) for k in known)]
    assert missing == []


def test_the_document_says_what_its_examples_print() -> None:
    assert sum(len(block.expected) for block in EXAMPLES) > 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_the_document_s_examples_run(example: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert len([line for line in example.code.splitlines() if line.strip() and not line.startswith("#")]) <= 10
    prelude = (
        "import atexit, contextlib\nfrom xpert.client.fake import FakeServer\nfrom xpert.client.fake.state import adapter_bytes\n"
        "from pathlib import Path\n"
        "fake, stack = FakeServer(), contextlib.ExitStack()\n"
        "for name in ('poetic', 'concise'):\n    _ = fake.add('starter', name, words={name: 0.8})\n"
        "Path('my-adapter').mkdir()\n"
        "for name, data in adapter_bytes('mine').items():\n    _ = Path('my-adapter', name).write_bytes(data)\n"
        "URL = stack.enter_context(fake.serve())\n"
    )
    # What listens is ended also where the example fails: its threads would keep the process from ending.
    body = indent(example.code.replace('"https://xpert.example.org"', "URL"), "    ")
    light = f"import sys\nassert not [name for name in {HEAVY} if name in sys.modules], 'what runs on a phone loads no torch'\n"
    source = f"{prelude}with stack:\n{body}\n{light}"
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    assert done.returncode == 0, done.stderr
    assert example.unprinted(done.stdout) == []
