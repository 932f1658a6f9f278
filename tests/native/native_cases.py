"""The native core in tests: what tools/build.py made of it, its inner parts by name, its C API."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from xpert.core.surface import SURFACE_NAMES, surface_statistics

NATIVE = Path(__file__).parents[2] / "mobile" / "native"
INTERNAL, BAD_INPUT, BAD_FILE, MISMATCH, NOT_FOUND, STORAGE, UNTRUSTED = 1, 3, 4, 5, 6, 8, 14


def tool(name: str) -> ModuleType:
    """A module of mobile/native/tools."""
    spec = importlib.util.spec_from_file_location(f"xpert_native_{name}", NATIVE / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Surface:
    """A real encoder without torch: the statistics by themselves."""

    name, dim, n_sentence = "surface-1", len(SURFACE_NAMES), 0
    encode = staticmethod(surface_statistics)


class PartError(Exception):
    """An error that an inner part ended with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Native:
    """The built core.

    Parameters
    ----------
    folder
        What `Build.build` gave, with the programs of the tests.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: subprocess.Popen[str] | None = None

    @property
    def device(self) -> Path:
        """The command xpert-device."""
        return self.folder / "bin" / "xpert-device"

    def program(self, name: str) -> Path:
        """A program of the tests."""
        return self.folder / "bin" / name

    def library(self) -> ctypes.CDLL:
        """The library libxpert.so."""
        return ctypes.CDLL(str(self.folder / "lib" / "libxpert.so"))

    def call(self, name: str, **arguments: Any) -> Any:
        """Ask an inner part (mobile/native/parts) for its result.

        Raises
        ------
        PartError
            It ended with an error.
        """
        if self._parts is None:
            self._parts = subprocess.Popen(
                [self.folder / "bin" / "xpert-parts"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                restore_signals=False,
            )
        assert self._parts.stdin is not None and self._parts.stdout is not None
        self._parts.stdin.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
        self._parts.stdin.flush()
        line = self._parts.stdout.readline()
        assert line, f"xpert-parts ended in '{name}' with exit status {self._parts.wait()}"
        found = json.loads(line)
        if "status" in found:
            raise PartError(found["status"], found["message"])
        return found["result"]

    def close(self) -> None:
        """End xpert-parts."""
        if self._parts is not None:
            self._parts.communicate()
            self._parts = None


def device(native: Native, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run xpert-device, which ends with ``status``."""
    done = subprocess.run([native.device, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stderr
    return done
