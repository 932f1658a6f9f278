"""`python -m xpert_services.serving --store FOLDER`: a site on a Ray of its own, until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xpert.core.errors import InputError, XpertError
from xpert_services.serving.args import ADMIN, SiteArgs
from xpert_services.serving.cluster import LOOPBACK, Place, prepare


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(
        prog="python -m xpert_services.serving",
        description="Serve the API on a Ray of its own, over a folder or an S3 bucket.",
        epilog=f"{ADMIN} gives an administrator's token; without, the first start makes one and writes it to a file.",
    )
    found.add_argument("--store", required=True, help="folder, or s3://BUCKET[/PREFIX][?endpoint=...]")
    found.add_argument("--site", type=Path, help="file with a site's settings (JSON, as the application takes them)")
    found.add_argument("--host", default=LOOPBACK)
    found.add_argument("--port", type=int, default=8400)
    found.add_argument("--certificate", type=Path, help="file with the TLS certificate")
    found.add_argument("--key", type=Path, help="file with its key")
    found.add_argument("--secrets", type=Path, default=Path("out/site"), help="folder for the tokens' files")
    found.add_argument("--dashboard-port", type=int, default=Place.dashboard_port, help="on the loopback address")
    found.add_argument("--metrics-port", type=int, default=Place.metrics_port, help="on the loopback address")
    found.add_argument("--metrics-open", type=int, metavar="PORT", help="the same on all addresses, for a Prometheus elsewhere")
    found.add_argument("--cpus", type=int, help="that the deployments share; by default the machine's")
    return found


def read_args(store: str, site: Path | None) -> SiteArgs:
    """Read a site's settings.

    Raises
    ------
    InputError
        They cannot be used.
    """
    try:
        settings = json.loads(site.read_bytes()) if site else {}
        # A replica's current folder is another.
        return SiteArgs.model_validate({**settings, "store": store if ":" in store else str(Path(store).absolute())})
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"Cannot use the site's settings in '{site}': {error}") from error


@contextmanager
def relay(given: argparse.Namespace) -> Iterator[int | None]:
    """Open the metrics to other machines for the block, where that is asked for.

    Raises
    ------
    InputError
        The port cannot be taken.
    """
    if given.metrics_open is None:
        yield None
        return
    from xpert_services.serving.relay import relayed

    with ExitStack() as opened:
        try:
            port = opened.enter_context(relayed(given.metrics_port, given.metrics_open))
        except OSError as error:
            raise InputError(f"The port {given.metrics_open} cannot be taken: {error}. Give --metrics-open another.") from error
        yield port


def main(arguments: list[str] | None = None) -> int:
    """Serve; returns the exit status."""
    given = parser().parse_args(arguments)
    folder = given.secrets.absolute()
    place = Place(
        token_file=folder / "ray-token",
        settings=folder / "metrics",
        dashboard_port=given.dashboard_port,
        metrics_port=given.metrics_port,
        cpus=given.cpus,
    )
    prepare(place)
    from xpert_services.serving.site import Start, run

    try:
        start = Start(
            args=read_args(given.store, given.site),
            place=place,
            first_token=folder / "admin-token",
            host=given.host,
            port=given.port,
            certificate=given.certificate,
            key=given.key,
        )
        with relay(given):
            run(start)
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
