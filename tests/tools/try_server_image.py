"""Run the server's image by runc as Kubernetes would, over a real S3 server, and see it explain a pLLM.

``python tests/tools/try_server_image.py`` wants an image that ``./taskw images`` built, buildah and runc; it is run by hand.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from pathlib import Path

import minio_server
import urllib3
from image_runner import USER, running
from minio import Minio

from xpert.client import Client
from xpert.core.errors import XpertError
from xpert.models.names import resolve

IMAGE = "localhost/xpert-server:dev"
PORT = 18400
STARTS_S = 300
K8S = Path(__file__).parents[2] / "k8s"


def _ready(url: str, log: Path) -> float:
    """Wait until it is ready; returns the seconds."""
    began = time.monotonic()
    while time.monotonic() - began < STARTS_S:
        try:
            if urllib3.request("GET", f"{url}/readyz", retries=False, timeout=5).status == 204:
                return time.monotonic() - began
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(1)
    sys.exit(f"It was not ready after {STARTS_S} s:\n{log.read_text()[-3000:]}")


def main() -> None:
    """Try it; exits with 1 where it does not work."""
    with tempfile.TemporaryDirectory(prefix="xpert-image-") as name, minio_server.running(Path(name)) as s3:
        folder = Path(name)
        folder.chmod(0o755)
        shared, token = folder / "shared", secrets.token_hex(16)
        shared.mkdir()
        (shared / "site.json").write_bytes((K8S / "server" / "site.json").read_bytes())
        bucket = Minio(f"127.0.0.1:{s3.port}", s3.user, s3.password, secure=False, region=minio_server.REGION)
        bucket.make_bucket("pllms")
        environment = {"XPERT_ADMIN_TOKEN": token, "AWS_ACCESS_KEY_ID": s3.user, "AWS_SECRET_ACCESS_KEY": s3.password}
        arguments = [
            f"--store=s3://pllms?endpoint={s3.url}",
            "--site=/run/xpert/site.json",
            f"--port={PORT}",
            "--secrets=/tmp/secrets",
        ]
        url = f"http://127.0.0.1:{PORT}"
        with running(IMAGE, folder, arguments, environment):
            seconds = _ready(url, folder / "container.log")
            try:
                with Client(url, token=token) as client:
                    client.add_base("starter", "starter:base")
                    job = client.wait(client.push(resolve("starter:poetic"), "starter", "poetic").job or "")
                    words = client.pllm("starter", "poetic").explanation.words[:2]
            except XpertError as error:
                sys.exit(f"{error}\n{(folder / 'log').read_text()[-3000:]}")
        told = ", ".join(f"{word.word} {word.coefficient:.2f}" for word in words)
        print(f"{IMAGE}: as user {USER}, its root read-only: ready after {seconds:.0f} s; explained ({job.state}): {told}")


if __name__ == "__main__":
    main()
