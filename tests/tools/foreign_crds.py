"""Resource definitions of other projects (KubeRay's, the Prometheus operator's), taken from their published Go modules.

``python tests/tools/foreign_crds.py`` fetches them where they are missing; go.sum says what must come.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from xpert.core.files import tools_folder

MODULE = Path(__file__).parent / "foreign-crds"
FILES = {
    "github.com/ray-project/kuberay/ray-operator": ("config/crd/bases/ray.io_rayservices.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}


def folder() -> Path:
    """Return where they are, or will be: another place for other versions."""
    pinned = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum")) + json.dumps(FILES).encode()
    return tools_folder() / f"foreign-crds-{hashlib.sha256(pinned).hexdigest()[:16]}"


def fetch() -> Path:
    """Fetch them where they are missing."""
    target = folder()
    if target.exists():
        return target
    if not shutil.which("go"):
        sys.exit("foreign-crds: no Go was found, with which they are fetched. Install Go 1.26 or newer (go.dev/dl).")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as name:
        made = Path(name) / "crds"
        made.mkdir()
        for module, paths in FILES.items():
            command = ["go", "mod", "download", "-json", module]
            done = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"foreign-crds: {module} did not come: {done.stderr or done.stdout}")
            source = Path(json.loads(done.stdout)["Dir"])
            for path in paths:
                shutil.copyfile(source / path, made / Path(path).name)
        made.rename(target)
    return target


if __name__ == "__main__":
    fetch()
