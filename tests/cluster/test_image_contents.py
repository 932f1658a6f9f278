"""What an image's own records name: its SBOM is held to that at each build."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import image_contents
import pytest

STATUS = """Package: libc6
Status: install ok installed
Version: 2.36-9

Package: libstdc++6
Status: install ok installed
Description: the library
 Package: of the description

Package: gone
Status: deinstall ok config-files
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / image_contents.STATUS).write_text(STATUS)
    folder = tmp_path / "opt/xpert/lib/python3.11/site-packages/python_json_logger-4.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: python_json.logger\nVersion: 4.0\n")
    return tmp_path


def written(monkeypatch: pytest.MonkeyPatch, *purls: str) -> None:
    """Have the scanner write these packages."""
    document = {"metadata": {"component": {"type": "file"}}, "components": [{"purl": purl} for purl in purls] + [{"name": "os"}]}

    def run(command: list[str], **_: Any) -> None:
        Path(command[-1].partition("=")[2]).write_text(json.dumps(document))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(image_contents.GoTool, "build", lambda _: Path("syft"))


ALL = ("pkg:deb/debian/libc6@2.36-9?arch=amd64", "pkg:deb/debian/libstdc%2B%2B6@12", "pkg:pypi/python-json-logger@4.0")


def test_what_is_installed_is_recorded_and_what_is_gone_is_not(root: Path) -> None:
    assert image_contents.recorded(root) == {"deb/libc6", "deb/libstdc++6", "pypi/python-json-logger"}


def test_a_whole_one_is_the_images(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, *ALL)
    assert image_contents.describe(root, "xpert-operator", "sha256:1", tmp_path / "sbom.json") == 3
    found = json.loads((tmp_path / "sbom.json").read_text())["metadata"]["component"]
    assert (found["type"], found["name"], found["version"]) == ("container", "xpert-operator", "sha256:1")


@pytest.mark.parametrize("left_out", ALL)
def test_one_that_leaves_something_out_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    written(monkeypatch, *(purl for purl in ALL if purl != left_out))
    with pytest.raises(ValueError, match="does not name 1 packages that are in the image"):
        image_contents.describe(root, "xpert-operator", "sha256:1", tmp_path / "sbom.json")
