"""`python -m xpert_services --store FOLDER`: the embedded server."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from xpert.core.errors import XpertError
from xpert_services import tracing
from xpert_services.api import Limits
from xpert_services.local import WORKER, Site, serve
from xpert_services.logs import configure
from xpert_services.services import Settings

ADMIN = "XPERT_ADMIN_TOKEN"
INTERRUPTED = 130


def parse(arguments: list[str] | None = None) -> Site:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m xpert_services",
        description="Serve the API with one worker, over a folder or an S3 bucket.",
        epilog=f"{ADMIN} gives an administrator's token; without, the first start makes one and shows it.",
    )
    parser.add_argument("--store", required=True, help="folder, or s3://BUCKET[/PREFIX][?endpoint=...]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8400, help="0 takes a free one")
    parser.add_argument("--models", action="append", type=Path, default=[], help="folder below which bases may be given by path")
    parser.add_argument("--public-url", help="what addresses begin with behind a proxy")
    parser.add_argument("--certificate", type=Path, help="file with the TLS certificate")
    parser.add_argument("--key", type=Path, help="file with its key")
    parser.add_argument("--metrics-port", type=int, help="where Prometheus fetches metrics, on the loopback address")
    parser.add_argument("--most-mib", type=int, default=2048, help="largest file that is taken")
    parser.add_argument("--rate", default=Limits.requests, help="requests of one token, such as 1200/minute")
    parser.add_argument("--direct", help="address by which clients reach the bucket by themselves, https://HOST[:PORT]")
    parser.add_argument("--replicas", type=int, default=1, help="how many such servers share the rate, over one bucket")
    given = parser.parse_args(arguments)
    return Site(
        store=given.store,
        host=given.host,
        port=given.port,
        public_url=given.public_url,
        certificate=given.certificate,
        key=given.key,
        metrics_port=given.metrics_port,
        settings=Settings(
            folders=given.models,
            admin_token=os.environ.get(ADMIN),
            most_bytes=given.most_mib * 2**20,
            direct=given.direct,
        ),
        limits=Limits(requests=given.rate, replicas=max(1, given.replicas)),
    )


def main(read: Callable[[], Site] = parse) -> int:
    """Serve what ``read`` makes of the command line; returns the exit status."""
    configure()
    # uvicorn raises again what it caught, once it has ended: by default that kills the process before the worker gives back
    # its jobs.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        site = read()
        tracing.start("xpert")
        serve(site)
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _leave(number: int, _: object) -> None:
    sys.exit(INTERRUPTED if number == signal.SIGINT else 0)


def run() -> NoReturn:
    """Serve, then end the process with its exit status."""
    try:
        status = main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    if any(thread.name == WORKER for thread in threading.enumerate()):
        # It has given back its jobs, but is still inside a long computation: torch would abort the process at its ordinary end.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
