"""`kubectl xpert`, run by the real kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane import kubectl


@dataclass(frozen=True)
class Plugin:
    """The plugin for whoever has a kubeconfig.

    Attributes
    ----------
    kubeconfig
        Value of KUBECONFIG.
    folder
        Where kubectl keeps what it learns.
    """

    kubeconfig: str
    folder: Path

    def run(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{kubectl().parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "KUBECONFIG": self.kubeconfig,
            "KUBECACHEDIR": str(self.folder),
            "COLUMNS": "220",
            "PYTHONWARNINGS": "ignore",
        }
        return subprocess.run(
            ["kubectl", "xpert", *arguments], input=answer, capture_output=True, text=True, check=False, env=environment
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def says(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, exit_code: int, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stderr
