"""The public header as an app in C sees it: the example of its pages compiles without a warning, and answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from native_cases import BAD_INPUT, NATIVE, NOT_FOUND, Native

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@pytest.fixture(scope="module")
def example(native: Native, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, lib = tmp_path_factory.mktemp("example") / "example", native.folder / "lib"
    linked = [f"-L{lib}", "-lxpert", f"-Wl,-rpath,{lib}", f"-Wl,-rpath-link,{lib}"]
    source = NATIVE / "docs" / "example.c"
    done = subprocess.run(
        ["cc", *STRICT, f"-I{native.folder}/include", source, "-o", made, *linked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
def test_the_example_answers(example: Path, small_bundle: Path) -> None:
    done = subprocess.run([example, small_bundle, "Why?"], capture_output=True, text=True, check=True)
    text, _, result = done.stdout.rpartition("\n{")
    found = json.loads("{" + result)
    assert 0 < found["n_new"] <= 16
    assert text == found["text"]


@pytest.mark.slow
def test_the_example_tells_what_is_wrong(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([example, tmp_path / "none", "Why?"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (NOT_FOUND, "")
    assert "none" in done.stderr
    assert subprocess.run([example], capture_output=True, check=False).returncode == BAD_INPUT
