"""A Ray of this machine's own: only on the loopback address, with a token, gone with the process that started it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 128 * 2**20
"""The deployments pass nothing large to each other: everything is in the site's store."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a cluster is.

    Attributes
    ----------
    token_file
        Holds Ray's token, readable by its owner alone; made where there is none.
    dashboard_port, metrics_port
        On the loopback address.
    settings
        Folder for the configurations that Ray writes for Prometheus and Grafana.
    cpus
        How many the deployments may share; by default the machine's.
    """

    token_file: Path
    settings: Path
    dashboard_port: int = 8265
    metrics_port: int = 8466
    cpus: int | None = None


@contextmanager
def running(place: Place) -> Iterator[None]:
    """Start a cluster for the block; `prepare` must have been called."""
    import ray

    # Sockets' paths below it may have 107 bytes in all, so it cannot lie just anywhere.
    folder = Path(tempfile.mkdtemp(prefix="xpert-ray-"))
    try:
        ray.init(
            address="local",
            num_cpus=place.cpus,
            include_dashboard=True,
            dashboard_host=LOOPBACK,
            dashboard_port=place.dashboard_port,
            object_store_memory=OBJECT_STORE_BYTES,
            namespace="serve",
            _node_ip_address=LOOPBACK,
            _metrics_export_port=place.metrics_port,
            _temp_dir=str(folder),
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def prepare(place: Place) -> None:
    """Set what Ray reads from the environment, for this process and those that it starts; before Ray is imported."""
    make_private(place.token_file, secrets.token_hex(32))
    # Without a mode, a new cluster asks for a token: what someone has set for another cluster does not count here.
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(place.token_file.absolute())
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # No cluster of several machines: without this, Ray replaces the loopback address by the machine's and listens on all.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_COLOR_PREFIX"] = "0"
    # By default it is among Ray's sockets, in a folder that has another name each time.
    os.environ["RAY_METRICS_OUTPUT_ROOT"] = str(place.settings.absolute())
    # A machine that does other things too needs more than the half minute that Ray gives its node.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")


def make_private(path: Path, text: str) -> bool:
    """Write a file that its owner alone may read, unless there is one, which then is made so; returns whether it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        return False
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    return True
