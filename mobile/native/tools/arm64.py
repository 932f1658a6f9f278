"""Builds the native core for arm64 Linux, as phones and boards have it, and says how to run it here by an emulator.

``python mobile/native/tools/arm64.py`` prints ``{"folder": what was built, "emulator": the words before a program}``. Needed
beside what build.py needs: a cross compiler, Rust's standard library for that machine, and QEMU's user emulation. ExecuTorch is
its wheel for arm64, of the version and hashes in requirements.lock. On an arm64 machine itself ./taskw native does all this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from build import Build, BuildError, fetched

LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"
TARGET = "aarch64-unknown-linux-gnu"
COMPILERS = ["aarch64-linux-gnu-g++", *(f"aarch64-linux-gnu-g++-{version}" for version in (14, 13, 12))]
EMULATORS = ["qemu-aarch64-static", "qemu-aarch64"]


def main() -> None:
    """Build, and print where and how to run it."""
    try:
        compiler, emulator = _tools_here()
        definitions = ("CMAKE_SYSTEM_NAME=Linux", "CMAKE_SYSTEM_PROCESSOR=aarch64", f"CMAKE_CXX_COMPILER={compiler}")
        built = Build(tests=True, definitions=definitions, executorch=_executorch(), target=TARGET).build()
    except BuildError as error:
        sys.exit(f"arm64: {error}")
    print(json.dumps({"folder": str(built), "emulator": [emulator, "-L", str(_system_root(compiler))]}))


def _tools_here() -> tuple[str, str]:
    """Find compiler and emulator.

    Raises
    ------
    BuildError
        Something is missing; with all that is, and how to install it.
    """
    compiler, emulator = (next(filter(shutil.which, names), "") for names in (COMPILERS, EMULATORS))
    missing = [
        *([] if compiler else [f"a cross compiler ({', '.join(COMPILERS)}; on Debian: apt-get install g++-aarch64-linux-gnu)"]),
        *([] if emulator else [f"the emulator ({', '.join(EMULATORS)}; on Debian: apt-get install qemu-user-static)"]),
        *([] if _has_standard_library() else [f"Rust's standard library for it (rustup target add {TARGET})"]),
    ]
    if missing:
        raise BuildError(f"To build for arm64 and run it here, this machine lacks {'; '.join(missing)}. Install that first.")
    return compiler, emulator


def _has_standard_library() -> bool:
    """Whether Rust is there with what it needs for that machine."""
    if not shutil.which("rustc"):
        return False
    asked = ["rustc", "--print", "target-libdir", "--target", TARGET]
    folder = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return bool(folder) and any(Path(folder).glob("libstd-*.rlib"))


def _executorch() -> Path:
    """Fetch ExecuTorch's wheel for arm64."""
    lines = LOCK.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("executorch=="))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("    --hash"))
    python = "{}.{}".format(*sys.version_info)
    platform = ["--python-platform", "aarch64-manylinux_2_28", "--python-version", python]
    return fetched("ExecuTorch's libraries for arm64", "\n".join(lines[start:end]) + "\n", *platform) / "executorch"


def _system_root(compiler: str) -> Path:
    """Return the folder in which the emulated program finds its loader and libraries."""
    found = subprocess.run([compiler, "-print-file-name=libc.so.6"], capture_output=True, text=True, check=True).stdout
    return Path(found.strip()).resolve().parents[1]


if __name__ == "__main__":
    main()
