"""Run the operator's image by runc as Kubernetes would (no root, nothing writable but /tmp) and see it make a resource ready.

``python tests/tools/try_operator_image.py`` wants an image that ``./taskw images`` built, buildah and runc; it is run by hand.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import control_plane
import urllib3
from image_runner import USER, running
from server_cases import serving

IMAGE = "localhost/xpert-operator:dev"
HEALTH = 18080
K8S = Path(__file__).parents[2] / "k8s"


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
            with running(IMAGE, folder, arguments, {"KUBECONFIG": "/run/xpert/kubeconfig"}):
                began = time.monotonic()
                done = plane.kubectl("wait", "--for=condition=Ready", "basemodel/starter", "--timeout=30s", check=False)
                health = _health()
            log = (folder / "container.log").read_text()
            if done.returncode or health != 200:
                sys.exit(f"{done.stderr}\nhealth: {health}\n{log[-3000:]}")
            print(f"{IMAGE}: as user {USER}, its root read-only: a resource was ready after {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
