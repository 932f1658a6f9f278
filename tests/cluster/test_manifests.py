"""Every manifest on a real API server, where pods are admitted under the restricted Pod Security standard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import foreign_crds
import pytest
import yaml
from cluster_cases import K8S, ROOT, WEIGHTS, starter, until
from control_plane import ControlPlane, kubectl
from local_cluster import defined
from network_cases import FORBIDDEN, NEEDED, NEEDED_BY_PODS, NEEDED_BY_RAY, Network

import xpert_starter

pytestmark = pytest.mark.slow

OVERLAYS = ("dev", "production", "production-kuberay")
SECRETS = "admin-token=a\ntoken=a\nAWS_ACCESS_KEY_ID=b\nAWS_SECRET_ACCESS_KEY=c\n"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of k8s/ with the secrets that people make themselves."""
    found = tmp_path_factory.mktemp("manifests") / "k8s"
    shutil.copytree(K8S, found)
    (found / "overlays" / "dev" / "secrets.env").write_text(SECRETS)
    return found


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own, as the operator's account goes with the overlays, and other tests work under it."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
        yield found


@pytest.fixture(scope="module")
def foreign(plane: ControlPlane) -> None:
    """The definitions of what others run: RayService, ServiceMonitor."""
    plane.kubectl("apply", "--server-side", "-f", str(foreign_crds.folder()))
    until(lambda: not plane.kubectl("get", "rayservices,servicemonitors,podmonitors", "-A", check=False).returncode, lambda: "")


def built(plane: ControlPlane, folder: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(plane.kubectl("kustomize", str(folder)).stdout) if body]


@pytest.fixture
def applied(plane: ControlPlane, tree: Path, foreign: None, request: pytest.FixtureRequest) -> Iterator[list[dict[str, Any]]]:
    """An overlay, really applied, and taken away again but for the definitions."""
    folder = tree / "overlays" / request.param
    plane.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(folder))
    found = built(plane, folder)
    yield found
    mine = [body for body in found if body["kind"] not in {"CustomResourceDefinition", "Namespace"}]
    plane.kubectl("delete", "--wait=false", "-f", "-", text=yaml.safe_dump_all(mine))


@pytest.mark.parametrize("applied", OVERLAYS, indirect=True)
def test_an_overlay_is_taken_and_its_pods_are_admitted(plane: ControlPlane, applied: list[dict[str, Any]]) -> None:
    deployments = [body["metadata"]["name"] for body in applied if body["kind"] == "Deployment"]
    assert "xpert-operator" in deployments

    def pods() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(plane.kubectl("get", "pods", "-n", "xpert", "-o", "json").stdout)["items"]
        return found

    def owners() -> set[str]:
        return {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods()}

    until(lambda: owners() >= set(deployments), lambda: plane.kubectl("get", "events", "-n", "xpert").stdout)
    for body in applied:
        if body["kind"] == "RayService":
            config = body["spec"]["rayClusterConfig"]
            for group in [config["headGroupSpec"], *config["workerGroupSpecs"]]:
                pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
                pod["metadata"] = {"generateName": "ray-", "namespace": "xpert"}
                done = plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", text=json.dumps(pod))
                assert "Warning" not in done.stderr


def test_a_pod_that_asks_for_more_is_refused(plane: ControlPlane, tree: Path, foreign: None) -> None:
    """The check above can fail: the same pod as root is not admitted."""
    (server,) = [body for body in built(plane, tree / "server") if body["kind"] == "Deployment"]
    plane.kubectl("apply", "-f", str(tree / "overlays" / "production" / "namespace.yaml"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "xpert"},
        "spec": server["spec"]["template"]["spec"],
    }
    pod["spec"]["securityContext"] = {}
    pod["spec"].pop("serviceAccountName")
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod), check=False)
    assert "violates PodSecurity" in done.stderr


def pods_of(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The templates of all pods that manifests bring, Ray's included."""
    pods = [body["spec"]["template"] for body in found if body["kind"] == "Deployment"]
    for body in found:
        if body["kind"] == "RayService":
            config = body["spec"]["rayClusterConfig"]
            pods += [group["template"] for group in [config["headGroupSpec"], *config["workerGroupSpecs"]]]
    return pods


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_bounded_and_every_selector_finds_its_pods(plane: ControlPlane, tree: Path, overlay: str) -> None:
    found = built(plane, tree / "overlays" / overlay)
    pods = pods_of(found)
    for pod in pods:
        for container in pod["spec"]["containers"]:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
            assert "memory" in container["resources"]["limits"]
    labels = [set(pod["metadata"]["labels"].items()) | {("ray.io/serve", "true")} for pod in pods]
    for body in found:
        selector = body.get("spec", {}).get("selector") if body["kind"] in {"Service", "PodDisruptionBudget"} else None
        if selector:
            wanted = set((selector.get("matchLabels") or selector).items())
            assert any(wanted <= each for each in labels), body["metadata"]


@pytest.mark.parametrize("overlay", ("production", "production-kuberay"))
def test_the_network_lets_through_what_is_needed_and_nothing_else(plane: ControlPlane, tree: Path, overlay: str) -> None:
    network = Network.of(built(plane, tree / "overlays" / overlay))
    ray = overlay == "production-kuberay"
    wanted = [*NEEDED, *(NEEDED_BY_RAY if ray else NEEDED_BY_PODS)]
    assert [flow for flow in wanted if not network.lets(flow)] == []
    assert [flow for flow in [*FORBIDDEN, *([] if ray else NEEDED_BY_RAY)] if network.lets(flow)] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_scales_is_left_to_scale_and_every_node_can_be_drained(plane: ControlPlane, tree: Path, overlay: str) -> None:
    found = built(plane, tree / "overlays" / overlay)
    deployments = {body["metadata"]["name"]: body["spec"] for body in found if body["kind"] == "Deployment"}
    least = {name: spec.get("replicas", 1) for name, spec in deployments.items()}
    scalers = [body["spec"] for body in found if body["kind"] == "HorizontalPodAutoscaler"]
    assert len(scalers) == (overlay == "production")
    for scaler in scalers:
        name = scaler["scaleTargetRef"]["name"]
        assert "replicas" not in deployments[name], "each apply would undo what the autoscaler did"
        least[name] = scaler["minReplicas"]
    by_label = {spec["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: name for name, spec in deployments.items()}
    budgets = [body["spec"] for body in found if body["kind"] == "PodDisruptionBudget"]
    assert budgets
    for budget in budgets:
        name = by_label.get(budget["selector"]["matchLabels"]["app.kubernetes.io/name"])
        assert "maxUnavailable" in budget or budget["minAvailable"] < least[str(name)], "no node with its pod could be drained"


@pytest.mark.parametrize("overlay", ("production", "production-kuberay"))
def test_whatever_has_metrics_is_watched(plane: ControlPlane, tree: Path, overlay: str) -> None:
    """A monitor selects labels and names a port: that both are there is nobody's else to check."""
    found = built(plane, tree / "overlays" / overlay)
    pods = pods_of(found)
    services = [body for body in found if body["kind"] == "Service"]
    watched = set()
    for body in found:
        wanted = (body.get("spec") or {}).get("selector", {})
        if body["kind"] == "PodMonitor":
            (port,) = [each["port"] for each in body["spec"]["podMetricsEndpoints"]]
            selected = [pod for pod in pods if wanted["matchLabels"].items() <= pod["metadata"]["labels"].items()]
            assert selected
            for pod in selected:
                names = {each["name"] for container in pod["spec"]["containers"] for each in container["ports"]}
                assert port in names, body["metadata"]["name"]
            watched.add(wanted["matchLabels"]["app.kubernetes.io/name"])
        elif body["kind"] == "ServiceMonitor":
            (service,) = [
                each for each in services if wanted["matchLabels"].items() <= each["metadata"].get("labels", {}).items()
            ]
            assert {each["port"] for each in body["spec"]["endpoints"]} <= {each["name"] for each in service["spec"]["ports"]}
            watched.add(service["spec"]["selector"]["app.kubernetes.io/name"])
    assert watched == {"xpert-operator", "xpert-server"}


def test_what_the_rayservice_serves_is_a_site(plane: ControlPlane, tree: Path, tmp_path: Path) -> None:
    (ray,) = [body for body in built(plane, tree / "kuberay") if body["kind"] == "RayService"]
    path = tmp_path / "site.yaml"
    path.write_text(ray["spec"]["serveConfigV2"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "xpert_services.serving.checking", str(path)], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_samples_are_the_starters(plane: ControlPlane, tree: Path) -> None:
    found = built(plane, tree / "samples")
    adapters = {body["metadata"]["name"]: body["spec"]["adapter"] for body in found if "adapter" in body["spec"]}
    for style, adapter in adapters.items():
        assert adapter == {**starter(style)["spec"]["adapter"], "digest": adapter["digest"]}
        assert adapter["digest"] == f"sha256:{starter(style)['spec']['adapter']['digest']}"
        assert (xpert_starter.path_of(style) / WEIGHTS).exists()
    assert len(adapters) == 3


def test_the_dashboard_is_the_services() -> None:
    copy = K8S / "overlays" / "shared" / "xpert.json"
    assert copy.read_text() == (ROOT / "services/src/xpert_services/grafana/xpert.json").read_text(), "Copy it: ./taskw crds"
    assert kubectl().exists()
