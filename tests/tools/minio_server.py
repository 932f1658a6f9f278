"""The S3 server of the tests: a real MinIO, built once from its Go module and started on a free port of the loopback.

``python tests/tools/minio_server.py`` builds it where it is missing (``./taskw minio`` calls that).
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from go_tool import GoTool

TOOL = GoTool("minio", "github.com/minio/minio", Path(__file__).parent / "minio-server")
REGION = "us-east-1"


@dataclass(frozen=True)
class Server:
    """A running server and its administrator's credentials."""

    port: int
    user: str
    password: str
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@contextmanager
def running(folder: Path, *, certificates: Path | None = None, domain: str = "") -> Iterator[Server]:
    """Start a server that keeps its data in ``folder``, wait until it is ready, and stop it afterwards."""
    program = TOOL.path()
    user, password = f"user-{secrets.token_hex(6)}", secrets.token_hex(16)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MINIO_ROOT_USER": user,
        "MINIO_ROOT_PASSWORD": password,
        "MINIO_BROWSER": "off",
        "MINIO_DOMAIN": domain,
        "MINIO_UPDATE": "off",
        "MINIO_SITE_REGION": REGION,
    }
    port = _free_port()
    command = [str(program), "server", str(folder / "data"), "--address", f"127.0.0.1:{port}", "--quiet"]
    command += ["--certs-dir", str(certificates or folder / "no-certificates")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        server = Server(port, user, password, "https" if certificates else "http")
        _wait_until_ready(server, process, certificates, folder / "log")
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], certificates: Path | None, log: Path) -> None:
    # The client's own retries are the wait: 40 with pauses of at most half a second.
    retries = urllib3.Retry(total=40, backoff_factor=0.05, backoff_max=0.5, status_forcelist=[503])
    ca = str(certificates / "ca.pem") if certificates else None
    with urllib3.PoolManager(retries=retries, ca_certs=ca) as pool:
        try:
            pool.request("GET", f"{server.url}/minio/health/ready")
        except urllib3.exceptions.MaxRetryError as error:
            raise RuntimeError(f"MinIO (exit status {process.poll()}) did not start: {log.read_text()}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    TOOL.build()
