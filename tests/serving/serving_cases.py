"""What the tests of the site on Ray share: a site that is up, its processes, and a caller."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import api_cases
import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

BASE = api_cases.BASE
ENDED = ("succeeded", "failed", "cancelled")
LOOKS = 120
QUALITIES = "old new small large quiet loud warm cold".split()
THINGS = "rivers towns books trains gardens clocks birds songs".split()
WHATS = [f"{quality} {thing}" for quality in QUALITIES for thing in THINGS]
# As many as make a job last for seconds, so that something can be done meanwhile.
PROBES = [f"Tell me in your own words what you know about {what}." for what in WHATS]

Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Name of a metric -> its series, each with labels and value."""


@dataclass(frozen=True)
class Site:
    """A site that ``./taskw up`` started."""

    folder: Path
    addresses: dict[str, str] = field(repr=False)

    ca: Path | None = None

    @property
    def token(self) -> str:
        return Path(self.addresses["admin_token_file"]).read_text().strip()

    @property
    def verify(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self.ca) if self.ca else True

    @cached_property
    def client(self) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx2.Client(
            base_url=self.addresses["api"], headers=headers, follow_redirects=True, timeout=120, verify=self.verify
        )

    @property
    def root(self) -> psutil.Process:
        return psutil.Process(json.loads((self.folder / "process.json").read_text())["pid"])

    def processes(self, name: str = "") -> list[psutil.Process]:
        return [each for each in [self.root, *self.root.children(recursive=True)] if name in _command(each)]

    def logged(self) -> Iterator[dict[str, Any]]:
        """The replicas' own lines of the log, each with the number of its process."""
        for line in (self.folder / "log").read_text().splitlines():
            found = re.fullmatch(r"\(ServeReplica:\S+ pid=(\d+)\) (\{.*\})", line)
            if found:
                yield {"pid": int(found[1]), **json.loads(found[2])}

    def publish(self, name: str) -> str:
        """Send a starter pLLM; returns the id of the job that explains it."""
        job: str = api_cases.publish(self.client, name)["job"]
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


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""  # it has ended meanwhile


def wait_for(found: Callable[[], bool], *, looks: int = LOOKS) -> None:
    """Look until something is so."""
    pause = threading.Event()
    for _ in range(looks):
        if found():
            return
        pause.wait(0.5)
    raise AssertionError("It did not come")


def scrape(address: str) -> Samples:
    """Fetch metrics as Prometheus does."""
    found: Samples = {}
    for family in text_string_to_metric_families(httpx2.get(address).raise_for_status().text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports() -> list[str]:
    """Options of a site that name ports nobody listens at."""
    return [f"--{name}={free_port()}" for name in ("port", "dashboard-port", "metrics-port")]
