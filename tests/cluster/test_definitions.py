"""An operator that is there before the resources' definitions are."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import control_plane
import pytest
import urllib3
from cluster_cases import K8S, operating, resource, until

from xpert.client.fake import FakeServer

pytestmark = pytest.mark.slow

READY = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


@contextmanager
def a_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile: it is bound, and whoever may use it again listens there."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_it_waits_for_the_definitions_and_says_so(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("any")
    base = json.dumps(resource("BaseModel", "starter", {"source": "starter:base"}))
    with (
        a_port() as port,
        control_plane.running(tmp_path / "plane") as plane,
        FakeServer().serve() as url,
        operating(plane.kubeconfig, url, token, tmp_path / "log", "--metrics-port", str(port)) as running,
    ):
        until(lambda: any("Install the definitions" in line["message"] for line in running.lines()), running.lines)
        plane.kubectl("apply", "--server-side", "-k", str(K8S / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "basemodels.xpert.dev")
        # The watch has to bring it: the listing that work begins with is over, and the next one an hour away.
        until(lambda: any("Initial authentication has finished" in line["message"] for line in running.lines()), running.lines)
        plane.kubectl("apply", "-f", "-", text=base)
        until(lambda: plane.kubectl("get", "bm", "starter", "-o", READY).stdout == "True", running.lines)
        told = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
        assert "xpert_operator_leading 1.0" in told, "the only one works without a lease, too"
