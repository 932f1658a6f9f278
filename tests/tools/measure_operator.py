"""What the operator needs for 1, 100 and 10,000 pLLMs: seconds, memory, requests, on a real API server.

``python tests/tools/measure_operator.py [--counts 1,100,10000] [-o FILE]``. The XPerT server behind is `xpert.client.fake` in a
process of its own, which explains at once: the time of an explanation is the server's, and is set apart in this way. The
adapters, each another one, come from a real S3 server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import control_plane
import httpx2
import minio_server
from control_plane import ControlPlane
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from minio import Minio

from xpert.bench.record import installed, provenance
from xpert.client.fake import FakeServer
from xpert.client.fake.state import adapter_bytes
from xpert.core.files import sha256_hex
from xpert.wire import CatalogueInfo
from xpert_operator.cluster import RESOURCES

ROOT = Path(__file__).parents[2]
SLOW = httpx2.Timeout(120.0)

BUCKET, NAMESPACE, AT_ONCE = "adapters", "bench", 32
WEIGHTS = "adapter_model.safetensors"
PLLM = RESOURCES["PersonalizedLLM"]
OURS = {"GET personalizedllms", "POST personalizedllms", "DELETE personalizedllms"}
"""Requests of this script, not the operator's."""


def serve() -> None:
    """Be the XPerT server; answers each line on the standard input with the counts of requests so far."""
    fake = FakeServer()
    made, counts = fake.state.catalogue, Counter[str]()
    held: list[tuple[CatalogueInfo, bytes]] = []

    def catalogue(base: str) -> tuple[CatalogueInfo, bytes]:
        # It is made once: the fake would cut ten thousand pLLMs anew whenever it is asked for the version.
        held[:] = held or [made(base)]
        return held[0]

    fake.state.catalogue = catalogue  # type: ignore[method-assign]
    with fake.serve() as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            seen, fake.seen[:] = list(fake.seen), []
            counts.update(
                f"{each.method} {'/'.join(each.path.split('/')[: 3 if each.path.startswith('/v1') else 2])}" for each in seen
            )
            sys.stdout.write(f"{json.dumps(dict(sorted(counts.items())))}\n")
            sys.stdout.flush()


class Fake:
    """That server, from outside."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._line()

    def counts(self) -> Counter[str]:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counter(json.loads(self._line()))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


class Operator:
    """The operator's process."""

    def __init__(self, plane: ControlPlane, url: str, folder: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "xpert_operator", "--server", url]
        with (folder / "operator.log").open("ab") as log:
            env = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0

    def use(self) -> dict[str, float]:
        """Memory in MiB, the most and now, and the seconds of a processor."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        mib = {name: int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ("VmHWM", "VmRSS")}  # type: ignore[index]
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        return {"peak_mib": round(mib["VmHWM"]), "mib": round(mib["VmRSS"]), "cpu_s": ticks / os.sysconf("SC_CLK_TCK")}


@contextmanager
def bucket(folder: Path, n: int) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A bucket with so many adapters; gives the credentials and the digests of the weights."""
    folder.mkdir()
    with minio_server.running(folder) as server:
        client = Minio(f"127.0.0.1:{server.port}", server.user, server.password, secure=False, region=minio_server.REGION)
        client.make_bucket(BUCKET)

        def upload(number: int) -> str:
            files = adapter_bytes(f"adapter {number}")
            for name, blob in files.items():
                client.put_object(BUCKET, f"{number}/{name}", BytesIO(blob), len(blob))
            return sha256_hex(files[WEIGHTS])

        with ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(upload, range(n)))
        secret = {
            "AWS_ACCESS_KEY_ID": server.user,
            "AWS_SECRET_ACCESS_KEY": server.password,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": minio_server.REGION,
        }
        yield secret, digests


def requests_of(plane: ControlPlane) -> Counter[str]:
    """What the API server was asked by others than this script, by verb and resource."""
    counts = Counter[str]()
    for line in plane.kubectl("get", "--raw", "/metrics").stdout.splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels, _, value = line.rpartition(" ")
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        name = f"{found['verb']} {found['resource']}{'/' + found['subresource'] if found['subresource'] else ''}"
        if name not in OURS and (found["group"] == "xpert.dev" or found["resource"] in {"events", "secrets"}):
            counts[name] += int(float(value))
    return counts


async def delete(client: AsyncClient, n: int) -> None:
    """Delete one by one: the API server ends a request for a whole large collection before it is done."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await client.delete(PLLM, f"p{number}", namespace=NAMESPACE)

    await asyncio.gather(*(one(number) for number in range(n)))


async def apply(client: AsyncClient, digests: list[str]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, digest: str) -> None:
        adapter = {"uri": f"s3://{BUCKET}/{number}", "digest": digest, "secretRef": {"name": "bucket"}}
        spec = {"baseModel": {"name": "starter"}, "adapter": adapter}
        async with gate:
            await client.create(PLLM(metadata={"name": f"p{number}", "namespace": NAMESPACE}, spec=spec))

    await asyncio.gather(*(one(number, digest) for number, digest in enumerate(digests)))


async def wait_ready(client: AsyncClient, n: int) -> None:
    for number in range(n):
        while True:
            found: Any = await client.get(PLLM, f"p{number}", namespace=NAMESPACE)
            if _ready_at(found) is not None:
                break
            await asyncio.sleep(0.05 if n < 100 else 0.5)


async def wait_gone(client: AsyncClient, n: int) -> None:
    for number in range(n):
        while True:
            try:
                await client.get(PLLM, f"p{number}", namespace=NAMESPACE)
            except ApiError as error:
                assert error.status.code == 404
                break
            await asyncio.sleep(0.05 if n < 100 else 0.5)


def _ready_at(found: Any) -> datetime | None:
    conditions = (found.status or {}).get("conditions") or []
    held = [each for each in conditions if each["type"] == "Ready" and each["status"] == "True"]
    return datetime.fromisoformat(held[0]["lastTransitionTime"]) if held else None


async def _all(client: AsyncClient) -> AsyncIterator[Any]:
    async for found in client.list(PLLM, namespace=NAMESPACE, chunk_size=500):
        yield found


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
        waits = [(_ready_at(each) - each.metadata.creationTimestamp).total_seconds() async for each in _all(client)]  # type: ignore[operator]
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
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    counts = [int(count) for count in given.counts.split(",")]
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
            for count in counts:
                fake = Fake()
                try:
                    runs.append(asyncio.run(measure(plane, fake, folder, digests[:count])))
                finally:
                    fake.end()
                sys.stdout.write(f"{json.dumps(runs[-1], indent=1)}\n")
                sys.stdout.flush()
                if given.out:
                    write(given.out, runs)  # after each, as the largest takes long


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    record = {"benchmark": "operator", "kubernetes": control_plane.VERSION, "runs": runs, **provenance(seed=0)}
    record["versions"] = {name: installed(name) for name in ("xpert", "xpert-operator", "kopf", "lightkube")}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
