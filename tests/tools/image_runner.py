"""An image of buildah's store, run by runc as Kubernetes runs it: no root, nothing writable but /tmp and /dev/shm."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = 10001
MOST_PROCESSES = 4096


def output(*command: str) -> str:
    """Run a command and return what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running(image: str, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Run an image with ``folder/shared`` at /run/xpert, read-only; what it prints goes to ``folder/container.log``."""
    container = output("buildah", "from", "--pull-never", image)
    name = f"xpert-try-{container.rsplit('-', 1)[-1]}"
    try:
        bundle = folder / "bundle"
        bundle.mkdir()
        output("runc", "spec", "--bundle", str(bundle))
        config = json.loads((bundle / "config.json").read_text())
        _confine(config, container, arguments, environment, shared=folder / "shared")
        (bundle / "config.json").write_text(json.dumps(config))
        with (folder / "container.log").open("wb") as log:
            process = subprocess.Popen(["runc", "run", "--bundle", str(bundle), name], stdout=log, stderr=log)
            try:
                yield
            finally:
                subprocess.run(["runc", "kill", name, "TERM"], check=False, capture_output=True)
                process.wait(60)
                subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)
    finally:
        output("buildah", "rm", container)


def _confine(
    config: dict[str, Any], container: str, arguments: Sequence[str], environment: Mapping[str, str], *, shared: Path
) -> None:
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    image = json.loads(output("buildah", "inspect", "--type", "container", container))["OCIv1"]["config"]
    config["root"] = {"path": output("buildah", "mount", container), "readonly": True}
    config["process"] |= {
        "terminal": False,
        "args": [*image["Entrypoint"], *arguments],
        "env": [*image["Env"], *(f"{key}={value}" for key, value in environment.items())],
        "user": {"uid": USER, "gid": USER},
        "noNewPrivileges": True,
        "capabilities": {},
        # runc's own limit on open files, 1024, is lower than any kubelet's; more than this process may have cannot be given.
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": most_files, "soft": most_files}],
    }
    linux = config["linux"]
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
    linux.setdefault("resources", {})["pids"] = {"limit": MOST_PROCESSES}
    kept = [each for each in config["mounts"] if each["destination"] != "/dev/shm"]  # noqa: S108
    memory = ["nosuid", "nodev", "mode=1777"]
    config["mounts"] = [
        *kept,
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": memory},  # noqa: S108
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*memory, "size=512m"]},  # noqa: S108
        {"destination": "/run/xpert", "type": "bind", "source": str(shared), "options": ["rbind", "ro"]},
    ]
