"""`kubectl xpert` on a real API server, run by the real kubectl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import control_plane
import pytest
from cluster_cases import DIGEST, K8S, ROOT, Operator, Space, merge, resource, starter, until
from control_plane import ControlPlane
from plugin_cases import Plugin

from xpert_operator.plugin import manifests

pytestmark = pytest.mark.slow

SECRETS = "admin-token=a\ntoken=a\nAWS_ACCESS_KEY_ID=b\nAWS_SECRET_ACCESS_KEY=c\n"


@pytest.fixture
def xpert(plane: ControlPlane, tmp_path: Path) -> Plugin:
    return Plugin(str(plane.kubeconfig), tmp_path / "kubectl")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[ControlPlane]:
    """A cluster without our definitions, which a test may change as it likes."""
    with control_plane.running(tmp_path / "bare") as found:
        yield found


@pytest.fixture
def k8s(tmp_path: Path) -> Path:
    """A copy of k8s/ with the secrets that people make themselves."""
    found = tmp_path / "k8s"
    shutil.copytree(K8S, found)
    (found / "overlays" / "dev" / "secrets.env").write_text(SECRETS)
    return found


def test_what_there_is_why_not_and_how_two_differ(space: Space, operator: Operator, xpert: Plugin) -> None:
    broken = starter("formal")
    broken["spec"]["adapter"]["digest"] = DIGEST
    space.apply(starter("concise"), starter("poetic"), broken)
    space.apply(merge("mix", ("concise", 0.5), ("formal", 0.5)))
    space.ready("concise", "poetic")
    space.reason("formal", "BadFile", "Stored")
    space.reason("mix", "SourceNotReady", "Accepted")

    listed = xpert.json("status", "-n", space.name)
    rows = {row["name"]: row for row in listed["pllms"]}
    assert (listed["ready"], listed["total"]) == (2, 4)
    assert rows["poetic"]["words"].startswith("poetic ") and rows["poetic"]["published"] == "True"
    assert rows["formal"]["reason"] == "BadFile" and rows["formal"]["words"] is None
    shown = xpert.says("status", "-A", "--not-ready")
    assert space.name in shown and "mix" in shown and "poetic" not in shown

    found = xpert.json("why", f"{space.name}/mix")
    assert (found["cause"]["name"], found["cause"]["reason"]) == ("formal", "BadFile")
    assert "sha256sum" in found["next"]
    assert [link["role"] for link in found["chain"]] == ["itself", "base", "source", "source"]
    told = xpert.says("why", "formal", "-n", space.name)
    assert "Cause: PersonalizedLLM formal: BadFile" in told and "Warning" in told
    assert xpert.json("why", "poetic", "-n", space.name)["next"] == "It is ready."

    compared = xpert.json("diff", "concise", "poetic", "-n", space.name)["words"]
    first, second = compared[0]["first"], compared[0]["second"]
    assert compared[0]["difference"] == pytest.approx(second["coefficient"] - first["coefficient"])
    assert compared[0]["overlap"] == (first["lower"] <= second["upper"] and second["lower"] <= first["upper"])
    poetic = next(row["second"]["coefficient"] for row in compared if row["word"] == "poetic")
    assert rows["poetic"]["words"].startswith(f"poetic {poetic:.2f}")
    assert "words apart" in xpert.says("diff", "concise", "poetic", "-n", space.name)
    assert "not explained yet" in xpert.refused(5, "diff", "concise", "formal", "-n", space.name)


def test_who_cannot_be_served_is_told_why(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    token = plane.kubectl("create", "token", "nobody", "-n", namespace).stdout.strip()
    nobody = Plugin(str(plane.kubeconfig_of(token, tmp_path / "nobody")), tmp_path / "kubectl")
    assert "xpert-view" in nobody.refused(11, "status", "-n", namespace)
    stranger = Plugin(str(plane.kubeconfig_of("wrong", tmp_path / "stranger")), tmp_path / "kubectl")
    assert "does not know you" in stranger.refused(11, "status")
    missing = Plugin(str(tmp_path / "nowhere"), tmp_path / "kubectl")
    assert "Set KUBECONFIG" in missing.refused(3, "status")
    config = json.loads(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "away").write_text(json.dumps(config))
    away = Plugin(str(tmp_path / "away"), tmp_path / "kubectl")
    assert "cannot be reached" in away.refused(13, "status")
    admin = Plugin(f"{tmp_path / 'away'}:{plane.kubeconfig}", tmp_path / "kubectl")  # kubectl merges them; the first wins
    assert "cannot be reached" in admin.refused(13, "status")
    both = Plugin(f"{plane.kubeconfig}:{tmp_path / 'away'}", tmp_path / "kubectl")
    assert "There is no PersonalizedLLM 'x'" in both.refused(6, "why", "x", "-n", namespace)
    assert "Context 'other' not found" in both.refused(3, "status", "--context", "other")


def test_from_nothing_to_installed_and_back(bare: ControlPlane, k8s: Path, tmp_path: Path) -> None:
    xpert = Plugin(str(bare.kubeconfig), tmp_path / "kubectl")
    assert "kubectl xpert install" in xpert.refused(6, "status")
    refused = xpert.refused(6, "install", "--overlay", "production", "--from", str(k8s))
    assert "ServiceMonitor" in refused and "nothing was changed" in refused
    assert not bare.kubectl("get", "crd", "-o", "name").stdout

    assert "found dev, production" in xpert.refused(6, "install", "--overlay", "none", "--from", str(k8s))
    applied = xpert.json("install", "--overlay", "dev", "--from", str(k8s))["applied"]
    assert "CustomResourceDefinition personalizedllms.xpert.dev" in applied and "Deployment xpert/xpert-operator" in applied
    assert xpert.json("install", "--overlay", "dev", "--from", str(k8s))["applied"] == applied
    assert xpert.json("status")["total"] == 0

    done = xpert.says("uninstall")
    assert "deleted Deployment xpert/xpert-operator" in done and "deleted ClusterRole xpert-edit" in done
    assert "left    the bucket" in done and "the server if it runs there" in done
    deployments = bare.kubectl("get", "deployments", "-n", "xpert", "-o", "name").stdout
    assert "xpert-server" in deployments and "xpert-operator" not in deployments
    assert "nothing: there is no operator" in xpert.says("uninstall")

    bare.kubectl("create", "namespace", "team")
    stuck = {**starter("concise"), "metadata": {"name": "concise", "namespace": "team", "finalizers": ["xpert.dev/server"]}}
    base = resource("BaseModel", "starter", {"source": "starter:base"})
    for body in (stuck, {**base, "metadata": {"name": "starter", "finalizers": ["xpert.dev/in-use"]}}):
        bare.kubectl("apply", "-f", "-", text=json.dumps(body))
    asked = xpert.run("uninstall", "--everything")
    assert asked.returncode == 3 and "1 personalizedllms" in asked.stderr and "--yes" in asked.stderr
    waited = xpert.refused(10, "uninstall", "--everything", "--yes", "--patience", "1")
    assert "team/concise" in waited and "--let-go" in waited
    done = xpert.says("uninstall", "--everything", "--yes", "--let-go")
    assert "deleted CustomResourceDefinition personalizedllms.xpert.dev" in done and "deleted Namespace xpert" in done
    until(lambda: not bare.kubectl("get", "crd", "-o", "name").stdout, lambda: "")


def test_a_wheel_brings_the_manifests_and_no_secrets(tmp_path: Path, k8s: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built from a copy whose overlay for trying has its secrets, as that of whoever tried it."""
    shutil.copytree(ROOT / "operator", tmp_path / "operator")
    command = [sys.executable, "-W", "ignore", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path / "operator", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name.removeprefix("xpert_operator/plugin/k8s/") for name in ZipFile(wheel).namelist() if "/k8s/" in name}
    assert not [name for name in packed if "secrets" in name]
    for folder in (
        "crds",
        "operator",
        "server",
        "kuberay",
        "overlays/production",
        "overlays/production-kuberay",
        "overlays/shared",
    ):
        assert {f"{folder}/{path.name}" for path in (k8s / folder).iterdir()} <= packed
    with ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "unpacked")
    monkeypatch.setenv("PATH", str(control_plane.kubectl().parent))
    found = manifests.rendered(tmp_path / "unpacked" / "xpert_operator" / "plugin" / "k8s", "production")
    assert "xpert-operator" in {body["metadata"]["name"] for body in found}


def test_what_somebody_else_set_is_left_alone_unless_told(bare: ControlPlane, k8s: Path, tmp_path: Path) -> None:
    xpert = Plugin(str(bare.kubeconfig), tmp_path / "kubectl")
    xpert.says("install", "--overlay", "dev", "--from", str(k8s))
    bare.kubectl("patch", "deployment", "xpert-operator", "-n", "xpert", "-p", '{"spec":{"replicas":0}}')
    assert "--force" in xpert.refused(10, "install", "--overlay", "dev", "--from", str(k8s))
    xpert.says("install", "--overlay", "dev", "--from", str(k8s), "--force")
    found = bare.kubectl("get", "deployment", "xpert-operator", "-n", "xpert", "-o", "jsonpath={.spec.replicas}").stdout
    assert found == "1"
