"""`python -m xpert_services.store collect|copy|migrate`: what an operator does with a store by hand or by timer."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta

from xpert.core.errors import NotFoundError, XpertError
from xpert_services.store import Retention, Store, open_store
from xpert_services.store.layout import read_version
from xpert_services.store.opening import open_objects

PLACE = "folder, or s3://BUCKET[/PREFIX][?endpoint=...]"
DAY_H = 24.0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m xpert_services.store", description="Look after a store; prints JSON.")
    what = found.add_subparsers(dest="what", required=True)
    collect = what.add_parser("collect", help="remove artifacts that no record refers to; servers may run meanwhile")
    collect.add_argument("--store", required=True, help=PLACE)
    collect.add_argument("--hours", type=float, default=DAY_H, help="how long they are kept after they were last touched")
    copy = what.add_parser("copy", help="bring a store to another place, or what has changed since; servers may run meanwhile")
    copy.add_argument("--store", required=True, help=PLACE)
    copy.add_argument("--to", required=True, help=f"where nothing else writes: {PLACE}")
    migrate = what.add_parser("migrate", help="bring a store of an older layout to this one; nothing else may use it")
    migrate.add_argument("--store", required=True, help=PLACE)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Do it; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        told = _do(given)
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{json.dumps(told)}\n")
    return 0


def _do(given: argparse.Namespace) -> dict[str, object]:
    store = _existing(given.store, migrate=given.what == "migrate")
    if given.what == "migrate":
        return {"layout": read_version(store.objects)}
    if given.what == "collect":
        collected = store.collect_garbage(retention=Retention(timedelta(hours=given.hours)))
        return {"artifacts": len(collected.artifacts), "bytes": collected.n_bytes, "orphans": collected.n_orphans}
    copied = store.copy_to(open_store(given.to))
    return {
        "records": copied.n_records,
        "changed": copied.n_changed,
        "artifacts": copied.n_artifacts,
        "bytes": copied.n_bytes,
    }


def _existing(url: str, *, migrate: bool) -> Store:
    """Open a store that is there: an empty backup of a mistyped name would look like a success."""
    if read_version(open_objects(url)) is None:
        raise NotFoundError(f"There is no store at '{url.partition('?')[0]}'. Check the URL.")
    return open_store(url, migrate=migrate)


if __name__ == "__main__":
    sys.exit(main())
