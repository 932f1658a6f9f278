"""`python -m xpert_services.serving.background up|down`: a site in the background, known by a file in its folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from xpert.core.errors import ConflictError, UnavailableError, XpertError

START_S, END_S, LOOK_S = 300.0, 90.0, 0.2
PROGRAM = (sys.executable, "-m", "xpert_services.serving")


@dataclass(frozen=True)
class Running:
    """A process that was started here: a number that was given to another since then has another time of birth."""

    pid: int
    born: float

    @classmethod
    def read(cls, path: Path) -> Running | None:
        """Return what a file names, if it is still running."""
        try:
            found = cls(**json.loads(path.read_bytes()))
            same = psutil.Process(found.pid).create_time() == found.born
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return found if same else None


def up(folder: Path, arguments: list[str], *, program: Sequence[str] = PROGRAM) -> dict[str, str]:
    """Start a site and wait until it answers.

    Parameters
    ----------
    folder
        For its tokens, its log, and the file that names its process.
    arguments
        Of ``python -m xpert_services.serving``.
    program
        What is started instead, with the same arguments.

    Returns
    -------
    dict
        Where everything is.

    Raises
    ------
    ConflictError
        One is running.
    UnavailableError
        It did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named, log = folder / "process.json", folder / "log"
    if Running.read(named):
        raise ConflictError(f"A site is up in '{folder}'. End it with ./taskw down.")
    pid = _start([*program, "--secrets", str(folder), *arguments], log)
    named.write_text(json.dumps(asdict(Running(pid, psutil.Process(pid).create_time()))))
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        for line in log.read_text(errors="replace").split("\n")[:-1]:
            if line.startswith('{"api"'):
                addresses: dict[str, str] = json.loads(line)
                return {**addresses, "log": str(log)}
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            named.unlink()
            told = os.waitstatus_to_exitcode(status)
            raise UnavailableError(f"The site ended while it started, exit status {told}. See '{log}'.")
        time.sleep(LOOK_S)
    down(folder)
    raise UnavailableError(f"The site did not answer within {START_S:.0f} s and was ended. See '{log}'.")


def _start(command: list[str], log: Path) -> int:
    """Start a process that outlives this one and its terminal; returns its number."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True)


def down(folder: Path) -> bool:
    """End the site that `up` started; returns whether there was one.

    Raises
    ------
    UnavailableError
        It does not end.
    """
    named = folder / "process.json"
    running = Running.read(named)
    if running:
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(END_S)
        except psutil.TimeoutExpired as error:
            raise UnavailableError(
                f"The process {running.pid} has not ended in {END_S:.0f} s. See '{folder / 'log'}'."
            ) from error
    named.unlink(missing_ok=True)
    return running is not None


def show(addresses: Mapping[str, str]) -> None:
    """Print where everything is."""
    for name, value in addresses.items():
        sys.stdout.write(f"{name.replace('_', ' '):26}{value}\n")


def main(arguments: list[str] | None = None) -> int:
    """Start or end a site; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m xpert_services.serving.background", description="A site in the background.")
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--folder", type=Path, default=Path("out/site"))
    parser.add_argument("--store", help="folder or s3:// URL; by default a folder in --folder")
    given, others = parser.parse_known_args(arguments)
    try:
        if given.what == "up":
            store = given.store or os.environ.get("STORE") or str(given.folder / "store")
            show(up(given.folder, ["--store", store, *others]))
        else:
            sys.stdout.write("The site was ended.\n" if down(given.folder) else "No site is up.\n")
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
