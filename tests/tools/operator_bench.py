"""What the operator is measured with: a fake XPerT server as a process, a bucket of adapters, operators, numbered pLLMs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import minio_server
from control_plane import ControlPlane
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from minio import Minio

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
        command = [sys.executable, __file__]
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

    def __init__(self, plane: ControlPlane, url: str, folder: Path, *options: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "xpert_operator", "--server", url, *options]
        with (folder / "operator.log").open("ab") as log:
            env = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(60) == 0

    def kill(self) -> None:
        """End it at once, with its lease still held."""
        self._process.kill()
        self._process.wait()

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
            if ready_at(found) is not None:
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


def ready_at(found: Any) -> datetime | None:
    conditions = (found.status or {}).get("conditions") or []
    held = [each for each in conditions if each["type"] == "Ready" and each["status"] == "True"]
    return datetime.fromisoformat(held[0]["lastTransitionTime"]) if held else None


async def everything(client: AsyncClient) -> AsyncIterator[Any]:
    async for found in client.list(PLLM, namespace=NAMESPACE, chunk_size=500):
        yield found


if __name__ == "__main__":
    serve()
