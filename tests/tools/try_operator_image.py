"""Run the operator's image by runc as Kubernetes would (no root, nothing writable but /tmp) and see it make a resource ready.

``python tests/tools/try_operator_image.py`` wants an image that ``./taskw images`` built, buildah and runc; it is run by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import control_plane
import urllib3
from server_cases import serving

IMAGE = "localhost/xpert-operator:dev"
USER = 10001
HEALTH = 18080
K8S = Path(__file__).parents[2] / "k8s"


def output(*command: str) -> str:
    """Run a command and return what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running(folder: Path, arguments: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run the image with a folder mounted at /run/xpert, read-only."""
    container = output("buildah", "from", "--pull-never", IMAGE)
    name = f"xpert-try-{container.rsplit('-', 1)[-1]}"
    try:
        bundle = folder / "bundle"
        bundle.mkdir()
        output("runc", "spec", "--bundle", str(bundle))
        config = json.loads((bundle / "config.json").read_text())
        image = json.loads(output("buildah", "inspect", "--type", "container", container))["OCIv1"]["config"]
        config["root"] = {"path": output("buildah", "mount", container), "readonly": True}
        config["process"] |= {
            "terminal": False,
            "args": [*image["Entrypoint"], *arguments],
            "env": [*image["Env"], *(f"{key}={value}" for key, value in environment.items())],
            "user": {"uid": USER, "gid": USER},
            "noNewPrivileges": True,
            "capabilities": {},
        }
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
        config["mounts"] += [
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},  # noqa: S108
            {"destination": "/run/xpert", "type": "bind", "source": str(folder / "shared"), "options": ["rbind", "ro"]},
        ]
        (bundle / "config.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(["runc", "run", "--bundle", str(bundle), name], stdout=log, stderr=log)
            try:
                yield
            finally:
                subprocess.run(["runc", "kill", name, "TERM"], check=False, capture_output=True)
                process.wait(60)
                subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)
    finally:
        output("buildah", "rm", container)


def _health() -> int:
    try:
        return urllib3.request("GET", f"http://127.0.0.1:{HEALTH}/healthz", retries=3).status
    except urllib3.exceptions.HTTPError:
        return 0


def main() -> None:
    """Try it; exits with 1 where it does not work."""
    with tempfile.TemporaryDirectory(prefix="xpert-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shared = folder / "shared"
        shared.mkdir()
        with serving(folder) as (url, said), control_plane.running(folder / "plane") as plane:
            plane.kubectl("create", "namespace", "xpert")
            plane.kubectl("apply", "--server-side", "-k", str(K8S / "crds"))
            for part in ("account", "roles"):
                plane.kubectl("apply", "-f", str(K8S / "operator" / f"{part}.yaml"))
            account = plane.kubectl("create", "token", "xpert-operator", "-n", "xpert").stdout.strip()
            plane.kubeconfig_of(account, shared / "kubeconfig").chmod(0o444)
            (shared / "token").write_text(said[0].rsplit(" ", 1)[1])
            plane.kubectl("apply", "-f", str(K8S / "samples" / "base.yaml"))
            arguments = [f"--server={url}", "--token-file=/run/xpert/token", f"--health-port={HEALTH}"]
            with running(folder, arguments, {"KUBECONFIG": "/run/xpert/kubeconfig"}):
                began = time.monotonic()
                done = plane.kubectl("wait", "--for=condition=Ready", "basemodel/starter", "--timeout=30s", check=False)
                health = _health()
            log = (folder / "log").read_text()
            if done.returncode or health != 200:
                sys.exit(f"{done.stderr}\nhealth: {health}\n{log[-3000:]}")
            print(f"{IMAGE}: as user {USER}, its root read-only: a resource was ready after {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
