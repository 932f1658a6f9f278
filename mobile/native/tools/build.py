"""Builds the native core (libxpert, xpert-device) and prints the folder with what was built.

``python mobile/native/tools/build.py [--tests] [--sanitize address,undefined|thread]``. Needed on the machine: Rust (cargo)
and a C++17 compiler; CMake, Ninja and the JSON header come from PyPI, pinned by requirements.txt beside this file. Everything is
kept under XPERT_TOOLS (`xpert.core.files.tools_folder`), each result under the digest of what it was built from: a second call
only looks it up.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xpert.core.files import tools_folder

NATIVE = Path(__file__).resolve().parent.parent
CRATE = NATIVE / "libraries"
ARCHIVE = "libxpert_libraries.a"


class BuildError(RuntimeError):
    """Something that the build needs is missing, or one of its steps failed."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build of the native core.

    Attributes
    ----------
    tests
        With the programs of the tests: xpert-parts, and those of tests/ and fuzz/.
    sanitize
        Sanitizers, as the compiler names them: ``address,undefined`` or ``thread``.
    cargo
        The program that builds the crate.
    definitions
        Further CMake variables, as in ``-DNAME=VALUE``.
    executorch
        The executorch package to build against; by default the one that this Python imports.
    target
        Rust's name of the machine to build for; by default this one.
    """

    tests: bool = False
    sanitize: str = ""
    cargo: str = "cargo"
    definitions: tuple[str, ...] = ()
    executorch: Path | None = None
    target: str = ""

    @property
    def folder(self) -> Path:
        """Where the result is, or will be: lib/libxpert.so, bin/xpert-device, include/xpert/xpert.h."""
        parts = [
            f"{self.tests} {self.sanitize} {self.definitions}",
            _executorch_version(),
            self._crate_digest(),
            *_contents(_sources()),
        ]
        # Sanitized ones and those of other machines have another name: they are not for use here.
        marks = [mark for mark in ("sanitized" if self.sanitize else "", self.target) if mark]
        return _tools() / "-".join([*marks, "native", _digest(parts)])

    def build(self) -> Path:
        """Build what is missing, and return the folder of the result.

        Raises
        ------
        BuildError
            A tool is missing, or a step failed; what it said is on stderr.
        """
        if self.folder.exists():
            # `xpert_mobile` takes the newest: the one that was asked for last, not the one built last. Where nothing can
            # be written nothing was built last either.
            with contextlib.suppress(PermissionError):
                for library in self.folder.glob("lib/*"):
                    library.touch()
            return self.folder
        kit, archive = _kit(), self._archive()
        with _locked("native"):
            # The folder's name is taken again: sources may have changed while the crate was built.
            result = self.folder
            if not result.exists():
                self._compile(kit, archive, result)
            return result

    def _compile(self, kit: Path, archive: Path, result: Path) -> None:
        options = [self.sanitize, *self.definitions, str(self.tests), self.target, str(self.executorch), str(NATIVE)]
        place = _tools() / f"native-cmake-{_digest(o.encode() for o in options)}"  # kept: the next build compiles what changed
        cmake, ninja = kit / "cmake/data/bin/cmake", kit / "bin/ninja"
        executorch = self.executorch or _executorch_folder()
        configure = [
            *(cmake, "-S", NATIVE, "-B", place, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"),
            *(f"-DCMAKE_PREFIX_PATH={executorch}", f"-Dexecutorch_DIR={executorch}/share/cmake"),
            *(f"-DXPERT_LIBRARIES={archive}", f"-DXPERT_JSON_INCLUDE={kit}/nlohmann_json/include"),
            *(f"-DXPERT_SANITIZE={self.sanitize}", f"-DXPERT_TESTS={'ON' if self.tests else 'OFF'}"),
            *(f"-D{definition}" for definition in self.definitions),
        ]
        _say("compiling the native core")
        environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        _run("configuring the native core", configure, environment)
        _run("compiling the native core", [cmake, "--build", place], environment)
        with tempfile.TemporaryDirectory(dir=_tools(), prefix="native-build-") as folder:
            made = Path(folder) / "made"
            _run("collecting the native core", [cmake, "--install", place, "--prefix", made], environment)
            made.replace(result)

    def _archive(self) -> Path:
        """Build the crate, and return its static library."""
        archive = _tools() / f"native-crate-{self._crate_digest()}" / ARCHIVE
        if archive.exists():
            return archive
        if not shutil.which(self.cargo):
            raise BuildError(
                f"There is no '{self.cargo}', with which the native core's libraries are built. Install Rust (rustup.rs)."
            )
        with _locked("native-crate"):
            if not archive.exists():
                _say("compiling the libraries of the native core (the first time minutes)")
                # One folder for all versions of the crate: its dependencies stay compiled.
                place = _tools() / "native-cargo"
                command = [self.cargo, "build", "--release", "--locked", "--quiet", "--manifest-path", CRATE / "Cargo.toml"]
                command += ["--target", self.target] if self.target else []
                _run("compiling the libraries", command, {"CARGO_TARGET_DIR": str(place)})
                archive.parent.mkdir(parents=True, exist_ok=True)
                stage = archive.with_suffix(".part")
                shutil.copyfile(place / self.target / "release" / ARCHIVE, stage)
                stage.replace(archive)
        return archive

    def _crate_digest(self) -> str:
        files = [CRATE / "Cargo.toml", CRATE / "Cargo.lock", *sorted((CRATE / "src").glob("*.rs"))]
        return _digest([self.target.encode(), *_contents(files)])


def _kit() -> Path:
    """Return the folder with CMake, Ninja and nlohmann's JSON header, fetched where they are missing."""
    return fetched("CMake, Ninja and the JSON header", Path(__file__).with_name("requirements.txt").read_text())


def fetched(what: str, requirements: str, *options: str) -> Path:
    """Return the folder with packages that are pinned by hash, fetched where they are missing.

    Raises
    ------
    BuildError
        There is no uv, or a package is not to be had.
    """
    kit = _tools() / f"native-kit-{_digest([requirements, *options])}"
    with _locked("native-kit"):
        if not kit.exists():
            uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
            if not uv:
                raise BuildError(f"There is no 'uv', with which {what} are fetched. Install it (pip install uv).")
            with tempfile.TemporaryDirectory(dir=_tools(), prefix="native-build-") as folder:
                wanted = Path(folder, "requirements.txt")
                wanted.write_text(requirements)
                command = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", *options]
                _run(f"fetching {what}", [*command, "--target", f"{folder}/kit", "-r", wanted], {})
                Path(folder, "kit").replace(kit)
    return kit


def _sources() -> list[Path]:
    """Return the files that the C++ part is built from."""
    folders = [NATIVE / name for name in ("include", "src", "parts", "cli", "tests", "fuzz", "jni", "libraries/include")]
    found = (path for folder in folders for path in folder.rglob("*") if path.suffix in {".h", ".cc", ".txt", ".map"})
    return [NATIVE / "CMakeLists.txt", *sorted(found)]


def _contents(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        yield str(path.relative_to(NATIVE)).encode()
        yield path.read_bytes()


def _digest(parts: Iterable[bytes | str]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def _executorch_version() -> str:
    try:
        return importlib.metadata.version("executorch")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(
            "There is no executorch in this Python's environment. Install the locked one (./taskw setup)."
        ) from error


def _executorch_folder() -> Path:
    # Found without importing it, which takes seconds.
    return Path(str(importlib.metadata.distribution("executorch").locate_file("executorch")))


def _tools() -> Path:
    found = tools_folder()
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (_tools() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once would do everything twice
        yield


def _run(what: str, command: Iterable[object], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout[-8000:] + done.stderr[-8000:], file=sys.stderr)
        raise BuildError(f"{what} failed with exit status {done.returncode}, see above.")


def _say(what: str) -> None:
    print(f"native - {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Build by the command line's options."""
    parser = argparse.ArgumentParser(description="Build the native core and print the folder of the result.")
    parser.add_argument("--tests", action="store_true", help="with the programs of the tests")
    parser.add_argument("--sanitize", default="", metavar="NAMES", help="address,undefined or thread")
    parser.add_argument("--cargo", default="cargo", help="the program that builds the crate")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE", help="a further CMake variable")
    parser.add_argument("--executorch", type=Path, help="the executorch package to build against")
    parser.add_argument("--target", default="", help="Rust's name of the machine to build for")
    asked = parser.parse_args()
    build = Build(
        tests=asked.tests,
        sanitize=asked.sanitize,
        cargo=asked.cargo,
        definitions=tuple(asked.define),
        executorch=asked.executorch,
        target=asked.target,
    )
    try:
        print(build.build())
    except BuildError as error:
        sys.exit(f"native: {error}")


if __name__ == "__main__":
    main()
