"""A real control plane, a real server and a real bucket for the tests of the operator and of the manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import control_plane
import minio_server
import pytest
from cluster_cases import BUCKET, CRDS, K8S, Operator, Site, Space, operating, resource, until
from control_plane import ControlPlane
from minio import Minio
from server_cases import serving

import xpert_starter

QUICK = (str(Path(__file__).with_name("quick_server.py")),)
STYLES = ("concise", "poetic", "formal")


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane, with the resources' definitions."""
    with control_plane.running(tmp_path_factory.mktemp("plane")) as found:
        found.kubectl("apply", "--server-side", "-k", str(CRDS))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all")
        # Established they are before the API server has made room for them.
        until(lambda: not found.kubectl("get", "bm,sspace,pllm", "-A", check=False).returncode, lambda: "no lists")
        yield found


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**10}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A bucket with starter adapters; gives what a Secret holds for it."""
    with minio_server.running(tmp_path_factory.mktemp("minio")) as server:
        client = Minio(f"127.0.0.1:{server.port}", server.user, server.password, secure=False, region=minio_server.REGION)
        client.make_bucket(BUCKET)
        for style in STYLES:
            for path in xpert_starter.path_of(style).iterdir():
                client.fput_object(BUCKET, f"{style}/{path.name}", str(path))
        yield {
            "AWS_ACCESS_KEY_ID": server.user,
            "AWS_SECRET_ACCESS_KEY": server.password,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": minio_server.REGION,
        }


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, "--rate", "100000/minute", program=QUICK) as (url, said):
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(said[0].rsplit(" ", 1)[1])
        yield Site(url, token)


@pytest.fixture(scope="session")
def account(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of the operator's own service account, which may do what k8s/operator/roles.yaml says."""
    plane.kubectl("create", "namespace", "xpert")
    for name in ("account", "roles"):
        plane.kubectl("apply", "-f", str(K8S / "operator" / f"{name}.yaml"))
    token = plane.kubectl("create", "token", "xpert-operator", "-n", "xpert", "--duration=4h").stdout.strip()
    return plane.kubeconfig_of(token, tmp_path_factory.mktemp("account") / "kubeconfig")


@pytest.fixture(scope="session")
def operator(account: Path, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator that looks at all namespaces, under its own account."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with operating(account, site.url, site.token, log, "--drift-s", "5") as found:
        yield found


@pytest.fixture
def space(plane: ControlPlane, namespace: str, bucket: dict[str, str]) -> Space:
    """A namespace with the bucket's credentials, beside the base model."""
    found = Space(plane, namespace)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": bucket}
    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(secret))
    found.apply(resource("BaseModel", "starter", {"source": "starter:base"}))
    return found
