"""What the operator is set to: by options, or by XPERT_OPERATOR_... in the environment."""

from __future__ import annotations

import argparse
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "XPERT_OPERATOR_"
MOST_EXPLANATIONS = 256
"""They are named in a style space's status, which stays small."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings.

    Attributes
    ----------
    server
        Address of the XPerT server, as this operator reaches it.
    token_file
        File with a token that may publish; read at each request, so that it can be replaced.
    ca
        File with the authority of the server's certificate; without, the system's are taken.
    namespaces
        Those it looks at; empty: all.
    watch_secrets
        Whether a change of a Secret or ConfigMap with the label ``xpert.dev/watch: "true"`` counts at once. It needs rights to
        list them, and rights do not know labels: who may list some may list all.
    workers
        How many resources are worked on at a time.
    downloads
        How many adapters are fetched at a time.
    explanations
        How many explanations of one style space are asked for at a time, at most 256.
    most_mib
        Largest adapter that is fetched.
    drift_s
        Seconds after which a resource is compared with the server though nothing changed.
    lease
        Name of the Lease by which one of several replicas works; empty: this is the only one.
    lease_namespace
        Namespace of that Lease.
    lease_s
        Seconds after which a silent replica's place is taken.
    identity
        What this replica is called in the Lease.
    health_port, metrics_port
        On all addresses of the pod; 0: none.
    """

    server: str
    token_file: Path | None = None
    ca: Path | None = None
    namespaces: tuple[str, ...] = ()
    watch_secrets: bool = False
    workers: int = 8
    downloads: int = 2
    explanations: int = 32
    most_mib: int = 2048
    drift_s: float = 3600.0
    lease: str = ""
    lease_namespace: str = "default"
    lease_s: float = 10.0
    identity: str = ""
    health_port: int = 0
    metrics_port: int = 0


def parse(arguments: list[str] | None = None) -> Settings:
    """Read the command line; what it leaves out comes from the environment."""
    found = argparse.ArgumentParser(prog="xpert-operator", description="Keeps an XPerT server as the cluster's resources say.")
    server = _given("server")
    found.add_argument("--server", default=server, required=server is None, help="address of the XPerT server")
    found.add_argument("--token-file", type=Path, default=_given("token_file"), help="file with a token that may publish")
    found.add_argument("--ca", type=Path, default=_given("ca"), help="authority of the server's certificate")
    namespaces = (_given("namespaces") or "").split(",")
    found.add_argument("--namespace", dest="namespaces", action="append", default=None, help="one to look at; without, all")
    watch = (_given("watch_secrets") or "").lower() == "true"
    found.add_argument("--watch-secrets", action="store_true", default=watch, help="changes of labelled Secrets count at once")
    for name, type_, about in (
        ("workers", int, "resources worked on at a time"),
        ("downloads", int, "adapters fetched at a time"),
        ("explanations", _bounded, "explanations of one style space asked for at a time, 1 to 256"),
        ("most_mib", int, "largest adapter that is fetched"),
        ("drift_s", float, "seconds after which a resource is compared with the server though nothing changed"),
        ("lease", str, "name of the Lease by which one of several replicas works"),
        ("lease_namespace", str, "namespace of the Lease"),
        ("lease_s", float, "seconds after which a silent replica's place is taken"),
        ("identity", str, "what this replica is called in the Lease"),
        ("health_port", int, "port of /healthz; 0: none"),
        ("metrics_port", int, "port for Prometheus; 0: none"),
    ):
        default = _given(name)
        found.add_argument(
            f"--{name.replace('_', '-')}",
            type=type_,
            default=getattr(Settings, name) if default is None else default,
            help=about,
        )
    given: dict[str, Any] = vars(found.parse_args(arguments))
    given["namespaces"] = tuple(given["namespaces"] or [name for name in namespaces if name])
    given["identity"] = given["identity"] or f"{socket.gethostname()}-{os.getpid()}"
    return Settings(**given)


def _bounded(text: str) -> int:
    found = int(text)
    if not 1 <= found <= MOST_EXPLANATIONS:
        raise argparse.ArgumentTypeError(f"{found}, expected 1 to {MOST_EXPLANATIONS}")
    return found


def _given(name: str) -> str | None:
    return os.environ.get(PREFIX + name.upper())
