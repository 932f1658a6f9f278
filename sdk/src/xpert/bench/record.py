"""The record of a benchmark run: where it ran, on which commit, with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("xpert", "numpy", "torch", "transformers", "peft", "sentence-transformers", "executorch")


def provenance(*, seed: int) -> dict[str, object]:
    """Describe this run: date, commit, hardware, versions and seed."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "seed": seed,
        "hardware": hardware(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def commit() -> str | None:
    """Return the commit of the checkout this code runs from, with ``+`` where files differ from it."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware() -> dict[str, object]:
    """Name the processor, its cores and the memory in GiB."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": model, "cores": os.cpu_count(), "memory_gib": round(gib), "machine": platform.machine()}


def installed(name: str) -> str | None:
    """Return the installed version of ``name``, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
