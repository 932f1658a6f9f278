"""What is done to a site: SIGKILL of its parts, and another version of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import yaml
from minio_server import Minio
from serving_cases import Site, wait_for

REPLICA = "ServeReplica:xpert:"
CONTROLLER = "ServeController"
STORE_AWAY_S = 2.0
LOOKS = 360


@dataclass(frozen=True)
class Shaken:
    """A site with its store, and chance."""

    site: Site
    minio: Minio
    settings: Mapping[str, Any]
    chance: random.Random

    def kill_replica(self, deployment: str) -> None:
        """Kill a replica, and wait until there are as many as before."""
        before = self.site.processes(f"{REPLICA}{deployment}")
        victim = self.chance.choice(before)
        victim.kill()
        self._wait_for_others(f"{REPLICA}{deployment}", {victim.pid}, len(before))

    def kill_controller(self) -> None:
        """Kill Serve's controller, and wait for the next one."""
        (victim,) = self.site.processes(CONTROLLER)
        victim.kill()
        self._wait_for_others(CONTROLLER, {victim.pid}, 1)

    def kill_store(self) -> None:
        """Kill the S3 server, and start it again on the same data."""
        self.minio.stop(kill=True)
        time.sleep(STORE_AWAY_S)
        self.minio.start()

    def change_version(self) -> None:
        """Deploy the site with a changed setting, and wait until no replica of the old version is left."""
        before = {each.pid for each in self.site.processes(REPLICA)}
        deploy(self.site, {**self.settings, "rate": "99999999/minute"})
        self._wait_for_others(REPLICA, before, len(before))

    def _wait_for_others(self, name: str, gone: set[int], n: int) -> None:
        def replaced() -> bool:
            now = {each.pid for each in self.site.processes(name)}
            return not now & gone and len(now) >= n

        wait_for(replaced, looks=LOOKS)
        wait_for(self._is_running, looks=LOOKS)

    def _is_running(self) -> bool:
        headers = {"authorization": f"Bearer {Path(self.site.addresses['dashboard_token_file']).read_text()}"}
        try:
            found = httpx2.get(f"{self.site.addresses['dashboard']}/api/serve/applications/", headers=headers, timeout=30).json()
        except (httpx2.TransportError, ValueError):
            return False  # the controller is not there yet
        application = found["applications"].get("xpert", {})
        deployments = application.get("deployments", {}).values()
        return (
            bool(application) and application["status"] == "RUNNING" and all(each["status"] == "HEALTHY" for each in deployments)
        )


FAULTS: dict[str, Callable[[Shaken], None]] = {
    "gateway": lambda shaken: shaken.kill_replica("gateway"),
    "explainer": lambda shaken: shaken.kill_replica("explainer"),
    "merger": lambda shaken: shaken.kill_replica("merger"),
    "controller": Shaken.kill_controller,
    "store": Shaken.kill_store,
    "version": Shaken.change_version,
}


def deploy(site: Site, settings: Mapping[str, Any]) -> None:
    """Deploy a site's application anew with ``serve deploy``, as an operator does."""
    address = httpx2.URL(site.addresses["api"])
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": address.host, "port": address.port},
        "applications": [
            {
                "name": "xpert",
                "import_path": "xpert_services.serving.application:app",
                "route_prefix": "/",
                "args": dict(settings),
            }
        ],
    }
    path = site.folder / "site.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": site.addresses["dashboard_token_file"]}
    command = [str(Path(sys.executable).parent / "serve"), "deploy", str(path), "--address", site.addresses["dashboard"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"serve deploy: {done.stdout}{done.stderr}")


def resident_mib(process: psutil.Process) -> float:
    """Return how much memory a process holds."""
    return float(process.memory_info().rss) / 2**20
