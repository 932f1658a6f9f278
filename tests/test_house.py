"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import xpert
from xpert.cli.app import app
from xpert.core import errors
from xpert.core.errors import MissingExtraError, XpertError
from xpert.core.runtime import find_runtime

ROOT = Path(__file__).parents[1]


def test_importing_xpert_loads_nothing_heavy() -> None:
    code = (
        "import sys, xpert, xpert.cli.app, xpert.core.selection\n"
        "heavy = {'torch', 'transformers', 'peft', 'sentence_transformers', 'executorch', 'matplotlib', 'ray', 'kopf'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_is_complete_and_resolves() -> None:
    for name in xpert.__all__:
        assert getattr(xpert, name) is not None
    assert list(xpert.__all__) == sorted(xpert.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        xpert.nothing  # noqa: B018


def test_every_error_has_its_own_exit_code_and_is_documented() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, XpertError)]
    documented = errors.__doc__ or ""
    for cls in classes:
        assert cls.__name__ in documented
    codes = [cls.code for cls in classes]
    assert len(codes) == len(set(codes))


def test_unknown_runtime_says_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match="found: executorch"):
        find_runtime("none")
    assert find_runtime().name == "executorch"


def test_no_package_shadows_the_standard_library() -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert not tops & sys.stdlib_module_names


def test_published_figures_are_the_recorded_ones() -> None:
    shown = CliRunner().invoke(app, ["bench", "report", str(ROOT / "tests" / "benchmarks"), "--markdown"], catch_exceptions=False)
    assert (ROOT / "docs" / "figures.md").read_text() == shown.stdout


def test_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    source = code[1]
    assert len([line for line in source.splitlines() if line.strip() and "import" not in line.split()]) <= 13
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "poetic" in done.stdout
    assert (tmp_path / "my-adapter" / "adapter_model.safetensors").exists()


test_readme_example_runs = pytest.mark.slow(test_readme_example_runs)
