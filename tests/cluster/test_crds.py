"""The resources' definitions: what the API server takes, refuses and shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cluster_cases import CRDS, DIGEST, pllm, resource, sources, space
from control_plane import ControlPlane

from xpert_operator.resources.crds import KINDS, render


@pytest.fixture
def refused(plane: ControlPlane, namespace: str) -> Callable[[dict[str, Any]], str]:
    def refuse(body: dict[str, Any]) -> str:
        done = plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(body), check=False)
        assert done.returncode, f"taken: {body}"
        return done.stderr

    return refuse


def test_the_files_are_what_the_models_say() -> None:
    for kind in KINDS:
        assert (CRDS / f"{kind.plural}.yaml").read_text() == render(kind), "Write them anew with ./taskw crds."
    assert {path.stem for path in CRDS.iterdir()} == {*(kind.plural for kind in KINDS), "kustomization"}


def test_every_field_is_described() -> None:
    def walk(node: dict[str, Any], where: str) -> list[str]:
        missing = [] if node.get("description") else [where]
        for name, part in node.get("properties", {}).items():
            missing += walk(part, f"{where}.{name}")
        if "properties" in node.get("items", {}):
            missing += walk(node["items"], f"{where}[]")
        return missing

    for kind in KINDS:
        schema = yaml.safe_load(render(kind))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            assert walk(schema["properties"][part], f"{kind.name}.{part}") == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (pllm(merge=sources(("a", 1))), "Give either adapter or merge, and not both."),
        (pllm(adapter=None), "Give either adapter or merge, and not both."),
        (pllm(adapter=None, merge=sources(("a", 1), ("a", 2))), "A pLLM may stand among the sources once."),
        (pllm(adapter=None, merge=sources(("a", 0))), "At least one weight must differ from 0."),
        (pllm(adapter=None, merge=sources(("a", 5))), "less than or equal to 4"),
        (pllm(adapter=None, merge=sources()), "at least 1 item"),
        (pllm(adapter={"uri": "ftp://x/y", "digest": DIGEST}), "adapter.uri"),
        (pllm(adapter={"uri": "s3://x/y", "digest": "abc"}), "adapter.digest"),
        (pllm(adapter={"uri": "s3://x/y"}), "adapter.digest: Required"),
        (pllm(deletionPolicy="Sometimes"), 'supported values: "Delete", "Retain"'),
        (pllm(publsh=True), 'unknown field "spec.publsh"'),
        (space(exemplars={"configMap": {"name": "a", "key": "b"}}), "Give either digest, or exemplars or words to build from"),
        (space(words=["poetic"]), "Give either digest, or exemplars or words to build from"),
        (space(digest=None), "Give either digest, or exemplars or words to build from"),
        (space(digest=None, words=[]), "at least 1 item"),
        (space(encoder="mini"), "Probes and encoder go with exemplars or words"),
        (space(version=0), "greater than or equal to 1"),
        (resource("BaseModel", "starter", {"source": "two words"}), "spec.source"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    refused: Callable[[dict[str, Any]], str], body: dict[str, Any], said: str
) -> None:
    assert said in refused(body)


@pytest.mark.parametrize(
    ("body", "change", "said"),
    [
        (pllm(), {"adapter": {"uri": "s3://other/one", "digest": DIGEST}}, "phones keep what they fetched"),
        (pllm(), {"adapter": None, "merge": sources(("a", 1))}, "phones keep what they fetched"),
        (pllm(), {"baseModel": {"name": "other"}}, "baseModel does not change"),
        (pllm(adapter=None, merge=sources(("a", 1))), {"merge": sources(("a", 2))}, "A merge does not change"),
        (space(), {"digest": "c" * 64}, "raise version"),
        (space(), {"version": 2, "baseModel": {"name": "other"}}, "stays with its base model"),
        (resource("BaseModel", "starter", {"source": "starter:base"}), {"source": "other"}, "Make another BaseModel"),
    ],
)
def test_what_does_not_change(
    plane: ControlPlane,
    namespace: str,
    refused: Callable[[dict[str, Any]], str],
    body: dict[str, Any],
    change: dict[str, Any],
    said: str,
) -> None:
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(body))
    changed = copy.deepcopy(body)
    changed["spec"] = {key: value for key, value in {**body["spec"], **change}.items() if value is not None}
    assert said in refused(changed)
    plane.kubectl("delete", "-n", namespace, "-f", "-", text=json.dumps(body))


def test_what_may_change_and_defaults(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(pllm()))
    found = json.loads(plane.kubectl("get", "-n", namespace, "pllm", "mine", "-o", "json").stdout)["spec"]
    assert (found["publish"], found["deletionPolicy"], found["dependents"]) == (True, "Delete", "Refuse")
    adapter = {"uri": "s3://adapters/mine", "digest": DIGEST, "secretRef": {"name": "rotated"}}
    changed = pllm(adapter=adapter, publish=False, styleSpace={"name": "words"}, deletionPolicy="Retain")
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(changed))
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(space()))
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(space(version=2, digest="c" * 64)))


def test_what_kubectl_shows(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(pllm()))
    moment = "2026-01-01T00:00:00Z"
    ready = {"status": "True", "reason": "Ready", "message": "", "lastTransitionTime": moment, "observedGeneration": 1}
    conditions = [{"type": type_, **ready} for type_ in ("Published", "Ready")]
    status = {"status": {"summary": "poetic 0.91, concise 0.20", "strength": 1.25, "conditions": conditions}}
    plane.kubectl("patch", "-n", namespace, "pllm", "mine", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    head, row = plane.kubectl("get", "-n", namespace, "pllm").stdout.splitlines()
    assert head.split() == ["NAME", "BASE", "WORDS", "STRENGTH", "PUBLISHED", "READY", "AGE"]
    assert row.split()[:-1] == ["mine", "starter", *"poetic 0.91, concise 0.20".split(), "1.25", "True", "True"]
    plane.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pllm/mine", "--timeout=5s")
    assert "mine" in plane.kubectl("get", "-n", namespace, "xpert").stdout
    assert "as sha256sum prints it" in plane.kubectl("explain", "pllm.spec.adapter.digest").stdout
