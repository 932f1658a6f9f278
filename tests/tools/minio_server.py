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


class Minio:
    """A server that can be killed and started again: at the same address, with the same credentials and data.

    Parameters
    ----------
    folder
        For its data and its log.
    certificates
        Folder of a TLS certificate.
    domain
        Host below which buckets have names of their own.
    """

    def __init__(self, folder: Path, *, certificates: Path | None = None, domain: str = "") -> None:
        self._folder, self._certificates, self._domain = folder, certificates, domain
        user, password = f"user-{secrets.token_hex(6)}", secrets.token_hex(16)
        self.server = Server(_free_port(), user, password, "https" if certificates else "http")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        folder, server = self._folder, self.server
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MINIO_ROOT_USER": server.user,
            "MINIO_ROOT_PASSWORD": server.password,
            "MINIO_BROWSER": "off",
            "MINIO_DOMAIN": self._domain,
            "MINIO_UPDATE": "off",
            "MINIO_SITE_REGION": REGION,
        }
        command = [str(TOOL.path()), "server", str(folder / "data"), "--address", f"127.0.0.1:{server.port}", "--quiet"]
        command += ["--certs-dir", str(self._certificates or folder / "no-certificates")]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _wait_until_ready(server, self.process, self._certificates, folder / "log")

    def stop(self, *, kill: bool = False) -> None:
        """End it; ``kill``: without a chance to finish anything."""
        if self.process:
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait()


@contextmanager
def running(folder: Path, *, certificates: Path | None = None, domain: str = "") -> Iterator[Server]:
    """Start a server that keeps its data in ``folder``, wait until it is ready, and stop it afterwards."""
    minio = Minio(folder, certificates=certificates, domain=domain)
    try:
        minio.start()
        yield minio.server
    finally:
        minio.stop()


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
