"""A Kubernetes control plane for the tests: the real etcd, API server and controller manager, on the loopback address.

``python tests/tools/control_plane.py`` builds it where it is missing (``./taskw control-plane`` calls that); with a folder it
also starts one there, prints its kubeconfig, and runs until it is told to stop.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import trustme
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from go_tool import GoTool

VERSION = "v1.37.2"
STAMP = "k8s.io/component-base/version"
MARKS = {"gitVersion": VERSION, "gitMajor": "1", "gitMinor": "37", "gitTreeState": "clean", "gitCommit": "unknown"}
FLAGS = " ".join(["-s -w", *(f"-X {STAMP}.{name}={value}" for name, value in MARKS.items())])
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kubectl")
TOOL = GoTool(
    "control-plane",
    " ".join(["go.etcd.io/etcd/server/v3", *(f"k8s.io/kubernetes/cmd/{name}" for name in COMPONENTS)]),
    Path(__file__).parent / "control-plane",
    ("go", "build", "-trimpath", "-buildvcs=false", f"-ldflags={FLAGS}"),
)
ETCD = "server"
"""How Go names etcd's program, after its package."""

PATIENCE = 120.0
"""Seconds that a part may take to be ready, on a machine that does other things too."""


def kubectl() -> Path:
    """Return the kubectl of this version."""
    return TOOL.path() / "kubectl"


@dataclass
class ControlPlane:
    """A running control plane.

    Attributes
    ----------
    folder
        Where it keeps everything.
    url
        Of its API server.
    kubeconfig
        File for an administrator.
    """

    folder: Path
    url: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    _etcd: str = ""
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    _held: list[socket.socket] = field(default_factory=list, repr=False)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator; ``text`` is its standard input."""
        command = [str(kubectl()), f"--kubeconfig={self.kubeconfig}", *arguments]
        # Without a folder of its own it would keep what it learns of the API in the home folder.
        environment = {**os.environ, "KUBECACHEDIR": str(self.folder / "kubectl")}
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environment)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done

    def kubeconfig_of(self, token: str, path: Path) -> Path:
        """Write a kubeconfig for whoever has this token."""
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def start(self) -> None:
        """Start etcd, the API server and the controller manager, each after the one before it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = [self._port() for _ in range(3)]
        self._etcd, self.url = f"http://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[2]}"
        self._write_secrets()
        self._spawn_etcd(f"http://127.0.0.1:{ports[1]}")
        self._wait("etcd", lambda: urllib3.request("GET", f"{self._etcd}/health", retries=False, timeout=5).status == 200)
        self.start_api_server()
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={self.folder / 'accounts.pem'}",
            f"--root-ca-file={self.ca}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("controller manager", lambda: self._get(account).status == 200)

    def start_api_server(self) -> None:
        """Start the API server, at the address that it had before, and wait until it is ready."""
        folder, port = self.folder, self.url.rsplit(":", 1)[1]
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'server.pem'}",
            f"--tls-private-key-file={folder / 'server-key.pem'}",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder / 'accounts.pem'}",
            f"--service-account-key-file={folder / 'accounts.pem'}",
            "--allow-privileged=true",
        )
        self._wait("API server", lambda: self._get("/readyz").status == 200)

    def stop_api_server(self, *, kill: bool = False) -> None:
        """End the API server, as an upgrade or, by ``kill``, as a crash does; `start_api_server` brings it back."""
        self._end("kube-apiserver", kill=kill)

    def stop(self) -> None:
        """End everything, what was started last first."""
        for name in reversed(list(self._running)):
            self._end(name)
        while self._held:
            self._held.pop().close()

    def _port(self) -> int:
        """Return a port that nobody else is given: it is bound, and who may use it again, as Go's servers do, listens there."""
        held = socket.socket()
        self._held.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])

    def _write_secrets(self) -> None:
        folder = self.folder
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        authority.cert_pem.write_to_path(str(self.ca))
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        account = {"server": self.url, "certificate-authority-data": base64.b64encode(self.ca.read_bytes()).decode()}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": account}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin", "namespace": "default"}}],
        }
        for name, data in {
            "server.pem": chain,
            "server-key.pem": certificate.private_key_pem.bytes(),
            "accounts.pem": pem,
            "tokens.csv": f'{self.token},admin,admin,"system:masters"\n'.encode(),
            "kubeconfig": json.dumps(config).encode(),
        }.items():
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)

    def _spawn_etcd(self, peer: str) -> None:
        self._spawn(
            ETCD,
            "--name=default",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _spawn(self, name: str, *arguments: str) -> None:
        with self._log(name) as log:
            command = [str(TOOL.path() / name), *arguments]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)

    def _log(self, name: str) -> IO[bytes]:
        return (self.folder / f"{name}.log").open("ab")

    def _end(self, name: str, *, kill: bool = False) -> None:
        process = self._running.pop(name)
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        with urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=5) as pool:
            return pool.request("GET", self.url + path, headers={"Authorization": f"Bearer {self.token}"})

    def _wait(self, what: str, is_ready: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            for name, process in self._running.items():
                if process.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text(errors="replace")
                    raise RuntimeError(f"{name} ended with {process.returncode}: {log[-3000:]}")
            try:
                if is_ready():
                    return
            except urllib3.exceptions.HTTPError:
                pass  # nobody listens there yet
            if time.monotonic() > end:
                raise TimeoutError(f"The {what} was not ready within {PATIENCE:.0f} s; see the logs in '{self.folder}'.")
            time.sleep(0.05)


@contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """Start a control plane in ``folder`` and end it afterwards."""
    plane = ControlPlane(folder.absolute())
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


if __name__ == "__main__":
    TOOL.build()
    for where in sys.argv[1:]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with running(Path(where)) as started:
            print(f"KUBECONFIG={started.kubeconfig}", flush=True)
            signal.pause()
