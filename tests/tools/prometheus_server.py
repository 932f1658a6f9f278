"""The Prometheus of the tests: a real one, built once from its Go module and started on a free port of the loopback.

With it comes promtool, which checks and tests rules. ``python tests/tools/prometheus_server.py`` builds them where they are
missing. Without service discovery for clouds, they are small.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from go_tool import GoTool

TOOL = GoTool(
    "prometheus",
    "github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool",
    Path(__file__).parent / "prometheus-server",
    ("go", "build", "-trimpath", "-ldflags=-s -w", "-tags=remove_all_sd"),
)


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return what it answers; fails where it does not understand."""
        found = json.loads(urllib3.request("GET", f"{self.url}/api/v1/query", fields={"query": query}).data)
        if found["status"] != "success":
            raise ValueError(f"{found.get('error')}: {query}")
        result: list[dict[str, Any]] = found["data"]["result"]
        return result


def promtool(*arguments: str) -> str:
    """Run promtool; returns what it says, and fails where it finds something wrong."""
    done = subprocess.run([str(TOOL.path() / "promtool"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout


@contextmanager
def running(folder: Path, *, port: int, scrapes: str | list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Start one that scrapes ``HOST:PORT``, or what is set, every second; wait until it is ready, and stop it afterwards."""
    targets = [{"job_name": "site", "static_configs": [{"targets": [scrapes]}]}] if isinstance(scrapes, str) else scrapes
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": targets}
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = [
        str(TOOL.path() / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        retries = urllib3.Retry(total=40, backoff_factor=0.05, backoff_max=0.5, status_forcelist=[503])
        urllib3.request("GET", f"{url}/-/ready", retries=retries)
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    TOOL.build()
