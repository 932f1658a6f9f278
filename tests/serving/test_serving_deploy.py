"""`serve deploy` of services/site.yaml on a Ray that is there and asks for a token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import api_cases
import httpx2
import pytest
import yaml
from serving_cases import ENDED, free_port, wait_for

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "services" / "site.yaml"
CHECK = [sys.executable, "-W", "ignore", "-m", "xpert_services.serving.checking"]
CLUSTER = """
import sys
from pathlib import Path
from xpert_services.serving.cluster import Place, prepare, running
token, dashboard, metrics = sys.argv[1:]
# As many as the configuration asks for: Ray counts them, and does not look.
ports = {"dashboard_port": int(dashboard), "metrics_port": int(metrics)}
place = Place(token_file=Path(token), settings=Path(token).parent / "metrics", cpus=8, **ports)
prepare(place)
with running(place):
    print("up", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cluster:
    dashboard: str
    token_file: Path

    def deploy(self, configuration: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "serve"), "deploy", str(configuration), "--address", self.dashboard]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    @property
    def token(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def status(self) -> str:
        headers = {"authorization": f"Bearer {self.token_file.read_text()}"}
        found = httpx2.get(f"{self.dashboard}/api/serve/applications/", headers=headers).raise_for_status().json()
        status: str = found["applications"]["xpert"]["status"]
        assert status not in ("DEPLOY_FAILED", "UNHEALTHY"), found["applications"]["xpert"]
        return status


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    token, ports = tmp_path / "token", [str(free_port()), str(free_port())]
    environment = {**os.environ, "XPERT_ADMIN_TOKEN": api_cases.ADMIN, "XPERT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-W", "ignore", "-c", CLUSTER, str(token), *ports]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "up\n", (tmp_path / "log").read_text()
        yield Cluster(f"http://127.0.0.1:{ports[0]}", token)
    finally:
        process.stdin.close()
        process.stdout.read()
        process.stdout.close()
        process.wait()


def test_it_is_deployed_and_explains(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    config = yaml.safe_load(CONFIGURATION.read_text())
    # All that is another's here: where it listens, and a bucket.
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"]["store"] = str(tmp_path / "store")
    configuration = tmp_path / "site.yaml"
    configuration.write_text(yaml.safe_dump(config))
    refused = cluster.deploy(configuration, RAY_AUTH_MODE="disabled")
    assert refused.returncode != 0
    assert "token authentication is enabled" in refused.stderr.lower()
    done = cluster.deploy(configuration, **cluster.token)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: cluster.status() == "RUNNING", looks=360)
    headers = {"authorization": f"Bearer {api_cases.ADMIN}"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
        client.post("/v1/bases", json={"name": api_cases.BASE, "source": "starter:base"}).raise_for_status()
        job = api_cases.publish(client, "concise")["job"]
        wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["state"] in ENDED, looks=360)
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
        assert client.get(f"/v1/catalogues/{api_cases.BASE}").status_code == 200


@pytest.mark.parametrize(
    ("found", "wrong"),
    [("proxy_location", "proxy_locaton"), ("  port", "  prot"), ("least: 2", "leest: 2"), ("import_path", "import_paht")],
)
def test_a_slip_of_the_pen_is_found(found: str, wrong: str, tmp_path: Path) -> None:
    text = CONFIGURATION.read_text()
    assert found in text
    (tmp_path / "site.yaml").write_text(text.replace(found, wrong))
    done = subprocess.run([*CHECK, str(tmp_path / "site.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert wrong.strip().split(":")[0] in done.stderr


def test_the_configuration_itself_is_sound() -> None:
    done = subprocess.run([*CHECK, str(CONFIGURATION)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
