"""What the operator needs for 1, 100 and 10,000 pLLMs: seconds, memory, requests, on a real API server.

``python tests/tools/measure_operator.py [--counts 1,100,10000] [-o FILE]``, or with ``--failovers 5`` how long the second of
two replicas takes until it has made a pLLM ready that was applied when the first was killed. The XPerT server behind is
`xpert.client.fake` in a process of its own, which explains at once: the time of an explanation is the server's, and is set
apart in this way. The adapters, each another one, come from a real S3 server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import control_plane
from control_plane import ControlPlane
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.resources.coordination_v1 import Lease
from operator_bench import (
    NAMESPACE,
    ROOT,
    SLOW,
    Fake,
    Operator,
    apply,
    bucket,
    delete,
    everything,
    ready_at,
    requests_of,
    wait_gone,
    wait_ready,
)

from xpert.bench.record import installed, provenance
from xpert_operator.settings import Settings


async def measure(plane: ControlPlane, fake: Fake, folder: Path, digests: list[str]) -> dict[str, Any]:
    """Apply, wait until all are ready, start the operator anew, and again to delete."""
    client = AsyncClient(KubeConfig.from_file(plane.kubeconfig), timeout=SLOW)
    try:
        return {
            **_said(await applied(plane, fake, folder, client, digests)),
            "restart": await restarted(plane, fake, folder, len(digests)),
            "deleted_s": await deleted(plane, fake, folder, client, len(digests)),
        }
    finally:
        await client.close()


async def applied(plane: ControlPlane, fake: Fake, folder: Path, client: AsyncClient, digests: list[str]) -> dict[str, Any]:
    """Apply, and wait until all are ready."""
    n = len(digests)
    with Operator(plane, fake.url, folder) as operator:
        while fake.counts()["POST /v1/bases"] == 0:  # it has listed, and waits
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        asked, served, idle = requests_of(plane), fake.counts(), operator.use()
        began = time.monotonic()
        await apply(client, digests)
        applied_s = time.monotonic() - began
        await wait_ready(client, n)
        ready_s = time.monotonic() - began
        waits = [(ready_at(each) - each.metadata.creationTimestamp).total_seconds() async for each in everything(client)]  # type: ignore[operator]
        return {
            "n": n,
            "applied_s": round(applied_s, 2),
            "ready_s": round(ready_s, 2),
            "pllms_a_second": round(n / ready_s, 1),
            "median_wait_s": statistics.median(waits),
            "longest_wait_s": max(waits),
            "operator_idle": idle,
            "operator": operator.use(),
            "api_requests_each": _each(requests_of(plane) - asked, n),
            "server_requests_each": _each(fake.counts() - served, n),
        }


async def restarted(plane: ControlPlane, fake: Fake, folder: Path, n: int) -> dict[str, Any]:
    """What a new process needs to find everything as it is to be."""
    asked, served = requests_of(plane), fake.counts()
    began = time.monotonic()
    with Operator(plane, fake.url, folder) as operator:
        await _looked(fake, served, n)
        found: dict[str, Any] = {"seconds": round(time.monotonic() - began, 2), "operator": operator.use()}
        await asyncio.sleep(3)
        found["api_requests"] = dict(sorted((requests_of(plane) - asked).items()))
        found["server_requests_each"] = _each(fake.counts() - served, n)
    return found


async def deleted(plane: ControlPlane, fake: Fake, folder: Path, client: AsyncClient, n: int) -> float:
    """Delete all, and return the seconds until the last one is gone."""
    served = fake.counts()
    with Operator(plane, fake.url, folder):
        await _looked(fake, served, n)
        began = time.monotonic()
        await delete(client, n)
        await wait_gone(client, n)
        return round(time.monotonic() - began, 2)


async def failed_over(plane: ControlPlane, folder: Path, digest: str, times: int) -> dict[str, Any]:
    """Kill the replica that works, so often, and time until the other has made a pLLM ready that was applied just then."""
    client = AsyncClient(KubeConfig.from_file(plane.kubeconfig), timeout=SLOW)
    fake = Fake()
    lease = ("--lease", "xpert-operator", "--lease-namespace", NAMESPACE)
    names = (f"replica-{number}" for number in itertools.count())

    def replica() -> tuple[str, Operator]:
        name = next(names)
        return name, Operator(plane, fake.url, folder, *lease, "--identity", name)

    async def holder() -> str:
        while True:
            with suppress(ApiError):
                found = await client.get(Lease, "xpert-operator", namespace=NAMESPACE)
                if found.spec and found.spec.holderIdentity in running:
                    return found.spec.holderIdentity
            await asyncio.sleep(0.1)

    seconds: list[float] = []
    running = dict(replica() for _ in range(2))
    try:
        for _ in range(times):
            await asyncio.sleep(5)  # the other one is up, and waits
            running.pop(await holder()).kill()
            began = time.monotonic()
            await apply(client, [digest])
            await wait_ready(client, 1)
            seconds.append(round(time.monotonic() - began, 2))
            await delete(client, 1)
            await wait_gone(client, 1)
            running.update([replica()])
            _said({"failover_s": seconds[-1]})
    finally:
        for operator in running.values():
            operator.__exit__()
        fake.end()
        await client.close()
    return {
        "n": len(seconds),
        "lease_s": Settings.lease_s,
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "longest_s": max(seconds),
    }


async def _looked(fake: Fake, served: Counter[str], n: int) -> None:
    """Wait until a new operator has looked at all."""
    while (fake.counts() - served)["GET /v1/pllms"] < n:
        await asyncio.sleep(0.2)


def _said(found: dict[str, Any]) -> dict[str, Any]:
    """Tell what was measured so far: the largest count takes long."""
    sys.stderr.write(f"{json.dumps(found)}\n")
    return found


def _each(counts: Counter[str], n: int) -> dict[str, float]:
    return {key: round(value / n, 3) for key, value in sorted(counts.items())}


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1,100,10000")
    parser.add_argument("--failovers", type=int, default=0, help="kill the replica that works so often, instead of --counts")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    counts = [1] if given.failovers else [int(count) for count in given.counts.split(",")]
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with control_plane.running(folder / "plane") as plane, bucket(folder / "minio", max(counts)) as (secret, digests):
            plane.kubectl("apply", "--server-side", "-k", str(ROOT / "k8s" / "crds"))
            plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
            plane.kubectl("create", "namespace", NAMESPACE)
            bodies = [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": secret},
                {
                    "apiVersion": "xpert.dev/v1alpha1",
                    "kind": "BaseModel",
                    "metadata": {"name": "starter"},
                    "spec": {"source": "b"},
                },
            ]
            for body in bodies:
                plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", text=json.dumps(body))
            if given.failovers:
                found = asyncio.run(failed_over(plane, folder, digests[0], given.failovers))
                sys.stdout.write(f"{json.dumps(found, indent=1)}\n")
                if given.out:
                    write(given.out, "operator-failover", found)
                return
            for count in counts:
                fake = Fake()
                try:
                    runs.append(asyncio.run(measure(plane, fake, folder, digests[:count])))
                finally:
                    fake.end()
                sys.stdout.write(f"{json.dumps(runs[-1], indent=1)}\n")
                sys.stdout.flush()
                if given.out:
                    write(given.out, "operator", {"runs": runs})  # after each, as the largest takes long


def write(path: Path, benchmark: str, found: dict[str, Any]) -> None:
    record = {"benchmark": benchmark, "kubernetes": control_plane.VERSION, **found, **provenance(seed=0)}
    record["versions"] = {name: installed(name) for name in ("xpert", "xpert-operator", "kopf", "lightkube")}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
