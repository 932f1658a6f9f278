"""What the package declares is what it imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

MOBILE = Path(__file__).parents[2] / "mobile"
ENCODER_ONLY = {"encoder_export.py", "comparison.py"}


def imported(files: list[Path]) -> set[str]:
    """List the distributions that files import anywhere; all of them are named as their package is."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"xpert_mobile"}


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def test_declared_dependencies_are_the_imported_ones() -> None:
    project = tomllib.loads((MOBILE / "pyproject.toml").read_text())["project"]
    files = sorted((MOBILE / "src").rglob("*.py"))
    assert imported([file for file in files if file.name not in ENCODER_ONLY]) == declared(project["dependencies"])
    extra = declared(project["optional-dependencies"]["encoder"])
    assert imported([file for file in files if file.name in ENCODER_ONLY]) - declared(project["dependencies"]) == extra - {
        "xpert"
    }
