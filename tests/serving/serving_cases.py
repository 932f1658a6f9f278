"""What the tests of the site on Ray share: a site that is up, its processes, and a caller."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import psutil

from xpert.models.names import resolve

BASE = "starter"
FILES = ("adapter_config.json", "adapter_model.safetensors")
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Site:
    """A site that ``./taskw up`` started."""

    folder: Path
    addresses: dict[str, str] = field(repr=False)

    @cached_property
    def client(self) -> httpx2.Client:
        token = Path(self.addresses["admin_token_file"]).read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.addresses["api"], headers=headers, follow_redirects=True, timeout=120)

    @property
    def root(self) -> psutil.Process:
        return psutil.Process(json.loads((self.folder / "process.json").read_text())["pid"])

    def processes(self, name: str = "") -> list[psutil.Process]:
        return [each for each in [self.root, *self.root.children(recursive=True)] if name in " ".join(each.cmdline())]

    def logged(self) -> Iterator[dict[str, Any]]:
        """The replicas' own lines of the log."""
        for line in (self.folder / "log").read_text().splitlines():
            found = re.fullmatch(r"\(ServeReplica:\S+ pid=\d+\) (\{.*\})", line)
            if found:
                yield json.loads(found[1])

    def publish(self, name: str, *, as_: str | None = None) -> str:
        """Send a starter pLLM; returns the id of the job that explains it."""
        self.client.post("/v1/bases", json={"name": BASE, "source": "starter:base"}).raise_for_status()
        files = {}
        for path in (resolve(f"starter:{name}") / file for file in FILES):
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            place = self.client.post("/v1/uploads", json={"digest": digest, "size": len(data), "kind": "adapter"}).json()
            if not place["present"]:
                self.client.put(place["url"], content=data, headers=place["headers"]).raise_for_status()
            files[path.name] = digest
        answer = self.client.post("/v1/pllms", json={"name": as_ or name, "base": BASE, "files": files})
        job: str = answer.raise_for_status().json()["job"]
        return job

    def watch(self, job: str, *, until: Callable[[dict[str, Any]], bool] = lambda job: job["state"] in ENDED) -> dict[str, Any]:
        """Follow a job by its events."""
        with self.client.stream("GET", f"/v1/jobs/{job}/events", timeout=300) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    found: dict[str, Any] = json.loads(line.removeprefix("data:"))
                    if until(found):
                        return found
        raise AssertionError(f"The events of job {job} ended early")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
