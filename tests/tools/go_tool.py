"""Programs of the tests that are built once from their Go modules, pinned by go.sum, into `xpert.core.files.tools_folder`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from xpert.core.files import tools_folder


@dataclass(frozen=True)
class GoTool:
    """A program, or several that belong together.

    Attributes
    ----------
    name
        What it is called.
    main
        Its package; several, with spaces between: they are built into a folder, each under its package's name.
    module
        Folder of the go.mod and go.sum that pin it.
    command
        How it is built.
    """

    name: str
    main: str
    module: Path
    command: tuple[str, ...] = ("go", "build", "-trimpath", "-ldflags=-s -w")

    @property
    def binary(self) -> Path:
        """Where it is, or will be built: a new one for each set of pinned modules and flags."""
        parts = [*((self.module / name).read_bytes() for name in ("go.mod", "go.sum")), " ".join(self.command).encode()]
        if self._mains[1:]:
            parts.append(self.main.encode())
        return tools_folder() / f"{self.name}-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"

    def build(self) -> Path:
        """Build it where it is missing."""
        target = self.binary
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once would do everything twice
            if target.exists():
                return target
            if not shutil.which("go"):
                sys.exit(
                    f"{self.name}: no Go was found, with which it is built for the tests. Install Go 1.26 or newer (go.dev/dl)."
                )
            print(f"{self.name} - building {self.main} as pinned in {self.module / 'go.sum'} (once, some minutes)", flush=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
                # A cache of its own, gone afterwards: it takes 1 to 4 GB.
                environment = {**os.environ, "GOCACHE": f"{folder}/cache", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
                made = Path(folder) / self.name
                if self._mains[1:]:
                    made.mkdir()
                done = subprocess.run(
                    [*self.command, "-o", str(made), *self._mains], cwd=self.module, env=environment, check=False
                )
                if done.returncode:
                    sys.exit(f"{self.name}: the build failed, see above. The first time it needs Go's module proxy.")
                made.replace(target)
        return target

    @property
    def _mains(self) -> list[str]:
        return self.main.split()

    def path(self) -> Path:
        """Return where it is.

        Raises
        ------
        RuntimeError
            It was not built.
        """
        if not self.binary.exists():
            raise RuntimeError(f"{self.name} is not there yet: '{self.binary}'. Build it with ./taskw {self.name}.")
        return self.binary
