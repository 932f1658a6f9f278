"""docs/kubernetes.md and docs/resources.md: what they list is complete, what they show is taken."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from cluster_cases import K8S, ROOT
from control_plane import ControlPlane
from documents import blocks
from prometheus_client import REGISTRY
from typer.testing import CliRunner

import xpert_operator.metrics
from xpert_operator.plugin import manifests
from xpert_operator.plugin.app import app
from xpert_operator.resources.reference import render

GUIDE, REFERENCE = (ROOT / "docs" / f"{name}.md" for name in ("kubernetes", "resources"))


def test_the_reference_is_the_schemas() -> None:
    assert REFERENCE.read_text() == render(), "Write it: ./taskw crds"


def test_every_metric_is_explained_and_there() -> None:
    assert xpert_operator.metrics
    there = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("xpert_operator_")}
    told = set(re.findall(r"^\| `(xpert_operator_\w+)` \|", GUIDE.read_text(), re.MULTILINE))
    assert told == there


def test_every_command_of_the_plugin_is_shown_and_there() -> None:
    shown = set(re.findall(r"kubectl xpert ([a-z]+)", GUIDE.read_text()))
    assert shown == {command.name for command in app.registered_commands}
    for line in re.findall(r"kubectl xpert ([a-z]+ [^`\n#&]*)", GUIDE.read_text()):
        command, *rest = line.split()
        known = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        for option in (word for word in rest if word.startswith("-")):
            assert re.search(rf"{re.escape(option)}\b", known), line


@pytest.mark.slow
def test_the_overlay_of_ones_own_is_production_with_other_images_and_bucket(tmp_path: Path, plane: ControlPlane) -> None:
    (mine,) = [block for block in blocks(GUIDE, "yaml") if block.code.startswith("# mine/kustomization.yaml")]
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(mine.code)
    text = plane.kubectl("kustomize", str(tmp_path / "mine")).stdout
    found = [body for body in yaml.safe_load_all(text) if body]
    assert manifests.placeholders(found) == []
    assert "s3://pllms?endpoint=https://storage.googleapis.com" in text
    as_they_are = yaml.safe_load_all(plane.kubectl("kustomize", str(K8S / "overlays" / "production")).stdout)
    assert len(manifests.placeholders(body for body in as_they_are if body)) == 3


@pytest.mark.slow
def test_the_references_examples_are_taken(plane: ControlPlane, namespace: str) -> None:
    examples = list(blocks(REFERENCE, "yaml"))
    assert len(examples) == 3
    for example in examples:
        plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-", text=example.code)


def test_every_link_leads_somewhere() -> None:
    for path in (GUIDE, REFERENCE, ROOT / "operator" / "README.md"):
        for target in re.findall(r"\]\(([\w./-]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
