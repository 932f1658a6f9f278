"""The load generator: vegeta, built once from its Go module.

``python tests/tools/vegeta.py`` builds it where it is missing (``./taskw vegeta`` calls that). It was chosen because it takes a
mix of requests with their headers from a file, keeps a number of connections busy or a rate, tells percentiles over every
request, and is built as the other Go programs here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from go_tool import GoTool

TOOL = GoTool("vegeta", "github.com/tsenart/vegeta/v12", Path(__file__).parent / "vegeta")
MS = 1e6


@dataclass(frozen=True)
class Target:
    """A request that is sent again and again."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"

    def line(self) -> str:
        headers = {name: [value] for name, value in self.headers.items()}
        return json.dumps({"method": self.method, "url": self.url, "header": headers})


@dataclass(frozen=True)
class Load:
    """What came of a load: requests, answers by status, requests a second, milliseconds."""

    requests: int
    statuses: Mapping[str, int]
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: tuple[str, ...] = ()

    def failed(self, *good: str) -> int:
        """Count what was answered otherwise, or not at all."""
        return self.requests - sum(self.statuses.get(status, 0) for status in good)


def attack(targets: Sequence[Target], *, seconds: float, connections: int, requests_a_second: int = 0) -> Load:
    """Send the targets' requests in turn.

    Parameters
    ----------
    targets
        In turn; a target that stands there twice comes twice as often.
    seconds
        How long.
    connections
        So many requests are under way at most.
    requests_a_second
        0: as many as come through, each connection sending its next request when its last one was answered.
    """
    command = [str(TOOL.path()), "attack", "-format=json", f"-duration={seconds}s", f"-rate={requests_a_second}", "-timeout=60s"]
    command += [f"-max-workers={connections}", f"-workers={connections}", f"-connections={connections}", "-redirects=-1"]
    # One processor for the load, so that it does not take from a server with several more than it has to.
    sent = subprocess.run(
        [*command, "-max-body=0"],
        input="".join(f"{each.line()}\n" for each in targets).encode(),
        stdout=subprocess.PIPE,
        check=True,
        env={"GOMAXPROCS": "1"},
    )
    done = subprocess.run([str(TOOL.path()), "report", "-type=json"], input=sent.stdout, stdout=subprocess.PIPE, check=True)
    return read_report(json.loads(done.stdout))


def read_report(report: Mapping[str, Any]) -> Load:
    """Read vegeta's report; its times are nanoseconds."""
    latencies = report["latencies"]
    statuses = {status: count for status, count in report["status_codes"].items() if status != "0"}
    return Load(
        requests=report["requests"],
        statuses=statuses,
        per_second=report["requests"] / ((report["duration"] + report["wait"]) / 1e9),
        p50_ms=latencies["50th"] / MS,
        p99_ms=latencies["99th"] / MS,
        errors=tuple(report["errors"] or ())[:5],
    )


if __name__ == "__main__":
    TOOL.build()
