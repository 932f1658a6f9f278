"""Hundreds of pLLMs at once: every one is brought to the server once, and none is forgotten."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import operator_bench
import pytest
from cluster_cases import Space, operating, resource, until
from control_plane import ControlPlane
from lightkube import AsyncClient, KubeConfig
from local_cluster import defined

from xpert.client.fake import FakeServer

pytestmark = pytest.mark.slow

MANY = 500
READY = "{range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own: no other operator looks at it."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
        yield found


def test_hundreds_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    space, fake, token = Space(plane, operator_bench.NAMESPACE), FakeServer(), tmp_path / "token"
    plane.kubectl("create", "namespace", space.name)
    token.touch(mode=0o600)
    token.write_text("any")
    with operator_bench.bucket(tmp_path / "minio", MANY) as (secret, digests), fake.serve() as url:
        space.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": secret},
            resource("BaseModel", "starter", {"source": "starter:base"}),
        )
        with operating(plane.kubeconfig, url, token, tmp_path / "log") as running:
            asyncio.run(create(plane, digests))
            until(lambda: ready(plane, space) == MANY, lambda: ready(plane, space), patience=500)
            assert running.process.poll() is None
            names = plane.kubectl("get", "pllm", "-n", space.name, "-o", "name").stdout.split()
            plane.kubectl("delete", "-n", space.name, "--wait=false", *names)
            until(lambda: not plane.kubectl("get", "pllm", "-n", space.name, "-o", "name").stdout, lambda: "some", patience=500)
    asked = Counter((seen.method, seen.path.rpartition("/")[0] if "starter" in seen.path else seen.path) for seen in fake.seen)
    print(json.dumps({f"{method} {path}": n for (method, path), n in asked.most_common(8)}))
    assert asked["POST", "/v1/pllms"] == MANY, "one of them was registered twice"
    assert asked["DELETE", "/v1/pllms/starter"] == MANY
    assert not fake.state.pllms


async def create(plane: ControlPlane, digests: list[str]) -> None:
    client = AsyncClient(KubeConfig.from_file(plane.kubeconfig))
    await operator_bench.apply(client, digests)
    await client.close()


def ready(plane: ControlPlane, space: Space) -> int:
    return plane.kubectl("get", "pllm", "-n", space.name, "-o", f"jsonpath={READY}").stdout.split().count("True")
