"""Build the images with buildah: ``python k8s/images/build.py [operator] [server]``, by default both.

XPERT_IMAGE_BASE names the image to build on, by digest. Without, a small Debian is made by mmdebstrap, for machines that reach
Debian's packages and no registry of images. Writes beside each image its digest and all that is in it, Debian's packages and
Python's (CycloneDX), to out/images.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from image_contents import describe

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out" / "images"
PACKAGES = "python3.11,python3-venv,ca-certificates"
BASE = "localhost/xpert-base:dev"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def run(*command: str) -> str:
    """Run a command and return what it printed; its errors are shown as they come."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"images: '{' '.join(command[:3])} ...' ended with status {done.returncode}, see above.")
    return done.stdout.strip()


def base() -> str:
    """Return the image to build on; made where none is given."""
    given = os.environ.get("XPERT_IMAGE_BASE")
    if given:
        if "@sha256:" not in given:
            sys.exit(
                f"images: XPERT_IMAGE_BASE is '{given}', expected NAME@sha256:..., so that what is built on does not change."
            )
        return given
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/base.tar"
        print("images - making a small Debian by mmdebstrap (two minutes)", flush=True)
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", archive)
        container = run("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, archive, "/")
        image = run("buildah", "commit", "--quiet", "--rm", container, BASE)
    return f"sha256:{image}"


def build(name: str, on: str) -> None:
    """Build one image and write its digest and contents."""
    print(f"images - building xpert-{name}", flush=True)
    target = f"localhost/xpert-{name}:dev"
    command = ["buildah", "bud", "--quiet", "--isolation=chroot", "--network=host", "--build-arg", f"BASE={on}"]
    if os.environ.get("SSL_CERT_FILE"):  # a proxy ends TLS here: its authority counts while the image is built, not in it
        command += ["--build-arg", f"SSL_CERT_FILE={AUTHORITIES}", "--volume", f"{os.environ['SSL_CERT_FILE']}:{AUTHORITIES}:ro"]
    image = run(*command, "--tag", target, "--file", f"{ROOT}/k8s/images/Containerfile.{name}", str(ROOT))
    container = run("buildah", "from", "--pull-never", target)
    contents = OUT / f"{name}.sbom.json"
    try:
        n_packages = describe(Path(run("buildah", "mount", container)), f"xpert-{name}", f"sha256:{image}", contents)
    finally:
        run("buildah", "rm", container)
    (OUT / f"{name}.digest").write_text(f"sha256:{image}\n")
    print(f"images - {target} is sha256:{image}; its {n_packages} packages: {contents}", flush=True)


def main(names: list[str]) -> None:
    """Build the images that are named."""
    missing = [tool for tool in ("buildah", "mmdebstrap") if not shutil.which(tool)]
    if "buildah" in missing or (missing and "XPERT_IMAGE_BASE" not in os.environ):
        sys.exit(f"images: {' and '.join(missing)} not found. On Debian: apt install buildah mmdebstrap.")
    OUT.mkdir(parents=True, exist_ok=True)
    on = base()
    for name in names or ["operator", "server"]:
        build(name, on)


if __name__ == "__main__":
    main(sys.argv[1:])
