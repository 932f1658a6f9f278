"""A real control plane for the tests of the operator and of the manifests."""

from __future__ import annotations

from collections.abc import Iterator

import control_plane
import pytest
from cluster_cases import CRDS
from control_plane import ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane, with the resources' definitions."""
    with control_plane.running(tmp_path_factory.mktemp("plane")) as found:
        found.kubectl("apply", "--server-side", "-f", str(CRDS))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield found


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**10}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")
