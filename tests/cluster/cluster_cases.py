"""What the cluster tests share: resources, the operator as a process, and what is asked of the API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane import ControlPlane

import xpert_starter
from xpert.client import Client
from xpert.core.files import sha256_hex

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
CRDS = K8S / "crds"
DIGEST = "sha256:" + "a" * 64
PATIENCE = 90.0
BUCKET = "adapters"
WEIGHTS = "adapter_model.safetensors"


def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "xpert.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pllm(name: str = "mine", **spec: Any) -> dict[str, Any]:
    adapter = {"uri": "s3://adapters/mine", "digest": DIGEST}
    found = {"baseModel": {"name": "starter"}, "adapter": adapter, **spec}
    return resource("PersonalizedLLM", name, {key: value for key, value in found.items() if value is not None})


def space(name: str = "words", **spec: Any) -> dict[str, Any]:
    found = {"baseModel": {"name": "starter"}, "version": 1, "digest": "b" * 64, **spec}
    return resource("StyleSpace", name, {key: value for key, value in found.items() if value is not None})


def sources(*found: tuple[str, float], **more: Any) -> dict[str, Any]:
    return {"sources": [{"name": name, "weight": weight} for name, weight in found], **more}


def starter(style: str, **spec: Any) -> dict[str, Any]:
    """The starter's adapter of a style, in the tests' bucket."""
    digest = sha256_hex((xpert_starter.path_of(style) / WEIGHTS).read_bytes())
    adapter = {"uri": f"s3://{BUCKET}/{style}", "digest": digest, "secretRef": {"name": "bucket"}}
    return pllm(style, **{"adapter": adapter, **spec})


def merge(name: str, *found: tuple[str, float], **spec: Any) -> dict[str, Any]:
    return pllm(name, adapter=None, merge=sources(*found), **spec)


@dataclass(frozen=True)
class Space:
    """A namespace of a real API server."""

    plane: ControlPlane
    name: str

    def apply(self, *bodies: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
        self.plane.kubectl("apply", "-n", self.name, "-f", "-", text=json.dumps(items))

    def delete(self, *names: str, kind: str = "pllm") -> None:
        self.plane.kubectl("delete", "-n", self.name, kind, *names, "--wait=false")

    def get(self, name: str, kind: str = "pllm") -> dict[str, Any] | None:
        done = self.plane.kubectl("get", "-n", self.name, kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(done.stdout) if done.stdout else None
        return found

    def condition(self, name: str, type_: str = "Ready", kind: str = "pllm") -> dict[str, Any]:
        found = self.get(name, kind) or {}
        listed = (found.get("status") or {}).get("conditions") or []
        return next((each for each in listed if each["type"] == type_), {"status": "", "reason": "", "message": ""})

    def ready(self, *names: str, kind: str = "pllm") -> list[dict[str, Any]]:
        """Wait until all are ready, and return them."""
        for name in names:
            until(lambda name=name: self.condition(name, kind=kind)["status"] == "True", lambda name=name: self.get(name, kind))
        return [self.get(name, kind) or {} for name in names]

    def reason(self, name: str, reason: str, type_: str = "Ready", kind: str = "pllm") -> str:
        """Wait until a condition has a reason, and return its message."""
        until(lambda: self.condition(name, type_, kind)["reason"] == reason, lambda: self.get(name, kind))
        message: str = self.condition(name, type_, kind)["message"]
        return message

    def gone(self, *names: str, kind: str = "pllm") -> None:
        for name in names:
            until(lambda name=name: self.get(name, kind) is None, lambda name=name: self.get(name, kind))

    def events(self, name: str) -> list[str]:
        done = self.plane.kubectl("get", "events", "-n", self.name, "-o", "json", f"--field-selector=involvedObject.name={name}")
        return [event["reason"] for event in json.loads(done.stdout)["items"]]


@dataclass(frozen=True)
class Site:
    """The server that the operator keeps."""

    url: str
    token: Path

    def client(self) -> Client:
        return Client(self.url, token=self.token.read_text())


def until(holds: Callable[[], bool], shows: Callable[[], object], *, patience: float = PATIENCE) -> None:
    """Wait until something holds; what is there instead is shown where it never does."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, json.dumps(shows(), indent=1)
        time.sleep(0.1)


@dataclass
class Operator:
    """A running operator."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        whole = self.log.read_bytes().rpartition(b"\n")[0]  # the last line may be on its way
        return [json.loads(line) for line in whole.decode().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def operating(kubeconfig: Path, url: str, token: Path, log: Path, *options: str) -> Iterator[Operator]:
    """Run an operator; it ends well when asked to, unless it was killed."""
    command = [sys.executable, "-W", "ignore", "-m", "xpert_operator", "--server", url, "--token-file", str(token), *options]
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=env)
    found = Operator(process, log)
    try:
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            assert process.returncode == 0, log.read_text()[-3000:]
