"""`python -m xpert_services.checks --store PLACE`: reads everything in a store and says what is wrong; servers may run."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from xpert.core.errors import NotFoundError, XpertError
from xpert_services.checks.checking import check_twice
from xpert_services.store import open_store
from xpert_services.store.layout import read_version
from xpert_services.store.opening import open_objects

WRONG = 1
PAUSE_S = 15.0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(
        prog="python -m xpert_services.checks",
        description="Read everything in a store: a line of JSON for each problem, then one with counts. Exit status 1: problems.",
    )
    found.add_argument("--store", required=True, help="folder, or s3://BUCKET[/PREFIX][?endpoint=...]")
    found.add_argument("--pause", type=float, default=PAUSE_S, help="seconds until a second look, where something is wrong")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Check; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        # Opening makes a store where there is none: a mistyped name would look consistent.
        if read_version(open_objects(given.store)) is None:
            raise NotFoundError(f"There is no store at '{given.store.partition('?')[0]}'. Check the URL.")
        report = check_twice(open_store(given.store), pause_s=given.pause)
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for problem in report.problems:
        sys.stdout.write(f"{json.dumps(asdict(problem), ensure_ascii=False)}\n")
    sys.stdout.write(f"{json.dumps({'problems': len(report.problems), **report.counts})}\n")
    return WRONG if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
