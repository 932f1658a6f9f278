"""All of it on this machine, for people (``./taskw cluster``) and for the tests: a control plane with the resources' definitions,
a bucket with the starter's adapters, the embedded server, and the operator under its own account.

There is no kubelet: the server and the operator are processes here rather than pods; everything else is as in any cluster.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import control_plane
import minio_server
from cluster_cases import BUCKET, CRDS, K8S, Operator, Site, Space, operating, until
from control_plane import ControlPlane, kubectl
from minio import Minio
from server_cases import serving

import xpert_starter

STYLES = ("concise", "poetic", "formal")
NAMESPACE = "samples"
PATIENCE = 1800.0
INTERRUPTED = 130


@contextmanager
def defined(folder: Path) -> Iterator[ControlPlane]:
    """Run a control plane with the resources' definitions."""
    with control_plane.running(folder) as found:
        found.kubectl("apply", "--server-side", "-k", str(CRDS))
        # Established they are before the API server has made room for them.
        until(lambda: not found.kubectl("get", "bm,sspace,pllm", "-A", check=False).returncode, lambda: "no lists")
        yield found


@contextmanager
def filled_bucket(folder: Path) -> Iterator[dict[str, str]]:
    """Run an S3 server with the starter's adapters; gives what a Secret holds for it."""
    with minio_server.running(folder) as server:
        client = Minio(f"127.0.0.1:{server.port}", server.user, server.password, secure=False, region=minio_server.REGION)
        client.make_bucket(BUCKET)
        for style in STYLES:
            for path in xpert_starter.path_of(style).iterdir():
                client.fput_object(BUCKET, f"{style}/{path.name}", str(path))
        yield {
            "AWS_ACCESS_KEY_ID": server.user,
            "AWS_SECRET_ACCESS_KEY": server.password,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": minio_server.REGION,
        }


@contextmanager
def served(folder: Path, *options: str, program: tuple[str, ...] = ("-m", "xpert_services")) -> Iterator[Site]:
    """Run the embedded server; its administrator's token is in a file."""
    with serving(folder, *options, program=program) as (url, said):
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(said[0].rsplit(" ", 1)[1])
        yield Site(url, token)


def account_of(plane: ControlPlane, path: Path) -> Path:
    """Write the kubeconfig of the operator's own service account, which may do what k8s/operator/roles.yaml says."""
    # Applied, not created: a test of the manifests may have made it before.
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "xpert"}}
    plane.kubectl("apply", "-f", "-", text=json.dumps(namespace))
    for name in ("account", "roles"):
        plane.kubectl("apply", "-f", str(K8S / "operator" / f"{name}.yaml"))
    token = plane.kubectl("create", "token", "xpert-operator", "-n", "xpert", "--duration=4h").stdout.strip()
    return plane.kubeconfig_of(token, path)


def give_secret(space: Space, bucket: dict[str, str]) -> None:
    """Make the Secret by which the pLLMs of a namespace reach their bucket."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": bucket}
    space.plane.kubectl("apply", "-n", space.name, "-f", "-", text=json.dumps(secret))


@dataclass(frozen=True)
class Local:
    """All of it.

    Attributes
    ----------
    space
        The namespace of the samples.
    site, operator
        The server, and who keeps it.
    """

    space: Space
    site: Site
    operator: Operator


@contextmanager
def running(folder: Path) -> Iterator[Local]:
    """Start everything until the operator looks at its first resource, and end it afterwards in the other order."""
    with ExitStack() as stack:
        say("starting etcd, the API server and the controller manager")
        plane = stack.enter_context(defined(folder / "plane"))
        say("starting an S3 server, and putting the starter's adapters there")
        bucket = stack.enter_context(filled_bucket(_made(folder / "minio")))
        say("starting the XPerT server")
        site = stack.enter_context(served(_made(folder / "site"), "--rate", "100000/minute"))
        say("starting the operator under its service account")
        account = account_of(plane, folder / "account.kubeconfig")
        operator = stack.enter_context(operating(account, site.url, site.token, folder / "operator.log"))
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}")
        space = Space(plane, NAMESPACE)
        give_secret(space, bucket)
        space.plane.kubectl("apply", "-f", str(K8S / "samples" / "base.yaml"))
        until(lambda: bool(space.condition("starter", kind="bm")["reason"]), lambda: operator.log.read_text()[-3000:])
        yield Local(space, site, operator)


def settle(local: Local) -> bool:
    """Wait until all resources are ready, saying what changes on the way; tells whether they are."""
    begun, told = time.monotonic(), dict[str, str]()
    while time.monotonic() < begun + PATIENCE and local.operator.process.poll() is None:
        found = json.loads(local.space.plane.kubectl("get", "bm,pllm", "-n", NAMESPACE, "-o", "json").stdout)["items"]
        for body in found:
            name = f"{body['kind']} {body['metadata']['name']}"
            conditions = (body.get("status") or {}).get("conditions", [])
            ready = next((each for each in conditions if each["type"] == "Ready"), {"reason": "New", "message": ""})
            line = f"{ready['reason']}. {ready['message']}"
            if told.get(name) != line:
                print(f"{time.monotonic() - begun:6.1f} s  {name}: {line}", flush=True)
            told[name] = line
        if found and all(line.startswith("Ready.") for line in told.values()):
            return True
        time.sleep(0.5)
    return False


def say(text: str) -> None:
    """Print what happens."""
    print(f"cluster - {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Start everything with the samples; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./taskw cluster --", description="XPerT in a real control plane, with the samples.")
    parser.add_argument("--once", action="store_true", help="end when the samples are ready")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with tempfile.TemporaryDirectory(prefix="xpert-cluster-") as folder, ExitStack() as stack:
            with _deaf_children():
                local = stack.enter_context(running(Path(folder)))
            status = _show(local)
            if not given.once and not status:
                say("Ctrl-C ends all of it")
                signal.pause()
            return status
    except KeyboardInterrupt:
        say("everything has ended")
        return INTERRUPTED


def _show(local: Local) -> int:
    plane = local.space.plane
    say("kubectl apply -k k8s/samples")
    plane.kubectl("apply", "-n", NAMESPACE, "-k", str(K8S / "samples"))
    if not settle(local):
        say(
            f"not all are ready after {PATIENCE:.0f} s, or the operator ended; its log:\n{local.operator.log.read_text()[-3000:]}"
        )
        return 1
    say("kubectl get pllm")
    print(plane.kubectl("get", "pllm").stdout, flush=True)
    path = f"{Path(sys.executable).parent}:{kubectl().parent}"
    say(f'to look further: export KUBECONFIG={plane.kubeconfig} PATH="{path}:$PATH"')
    say("then: kubectl describe pllm concise; kubectl explain pllm.spec; kubectl xpert status; kubectl xpert diff concise poetic")
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Have processes that are started here not hear Ctrl-C: a terminal sends it to all of them, and they are to end in order."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


if __name__ == "__main__":
    sys.exit(main())
