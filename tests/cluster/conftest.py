"""A real control plane, a real server and a real bucket for the tests of the operator and of the manifests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_cases import Operator, Site, Space, operating, resource
from control_plane import ControlPlane
from local_cluster import account_of, defined, filled_bucket, give_secret, served

QUICK = (str(Path(__file__).with_name("quick_server.py")),)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane, with the resources' definitions."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
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
    with filled_bucket(tmp_path_factory.mktemp("minio")) as found:
        yield found


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("site"), "--rate", "100000/minute", program=QUICK) as found:
        yield found


@pytest.fixture(scope="session")
def account(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of the operator's own service account."""
    return account_of(plane, tmp_path_factory.mktemp("account") / "kubeconfig")


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
    give_secret(found, bucket)
    found.apply(resource("BaseModel", "starter", {"source": "starter:base"}))
    return found
