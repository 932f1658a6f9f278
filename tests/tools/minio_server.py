"""The S3 server of the tests: a real MinIO, built once from its Go module and started on a free port of the loopback.

``python tests/tools/minio_server.py`` builds it where it is missing (``./taskw minio`` calls that).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

MODULE = Path(__file__).parent / "minio-server"
MAIN = "github.com/minio/minio"
BUILD = ("go", "build", "-trimpath", "-ldflags=-s -w")
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


def binary() -> Path:
    """Return where the server is, or will be built: a new one for each set of pinned modules and flags."""
    tools = Path(os.environ.get("XPERT_TOOLS") or Path.home() / ".cache" / "xpert-tools")
    parts = [*((MODULE / name).read_bytes() for name in ("go.mod", "go.sum")), " ".join(BUILD).encode()]
    return tools / f"minio-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"


def build() -> Path:
    """Build the server where it is missing."""
    target = binary()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once would do everything twice
        if target.exists():
            return target
        if not shutil.which("go"):
            sys.exit(
                "minio: no Go was found, with which the S3 server of the tests is built. Install Go 1.25 or newer (go.dev/dl)."
            )
        print(f"minio - building {MAIN} as pinned in {MODULE / 'go.sum'} (once, about 4 minutes)", flush=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
            # A cache of its own, gone afterwards: it takes 1 GB.
            environment = {**os.environ, "GOCACHE": f"{folder}/cache", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
            made = Path(folder) / "minio"
            done = subprocess.run([*BUILD, "-o", str(made), MAIN], cwd=MODULE, env=environment, check=False)
            if done.returncode:
                sys.exit("minio: the build failed, see above. It needs Go 1.25 or newer and, the first time, Go's module proxy.")
            made.replace(target)
    return target


@contextmanager
def running(folder: Path, *, certificates: Path | None = None, domain: str = "") -> Iterator[Server]:
    """Start a server that keeps its data in ``folder``, wait until it is ready, and stop it afterwards."""
    program = binary()
    if not program.exists():
        raise RuntimeError(f"The tests' S3 server is not there yet: '{program}'. Build it with ./taskw minio.")
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
    build()
