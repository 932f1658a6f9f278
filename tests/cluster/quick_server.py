"""The embedded server with few and short probes: an explanation takes a second. Options as for `python -m xpert_services`."""

from __future__ import annotations

import sys
from dataclasses import replace

from xpert.core.data import probes
from xpert_services.__main__ import main, parse
from xpert_services.explainer.asking import Asking
from xpert_services.local import Site


def quick(arguments: list[str] | None = None) -> Site:
    """Read the command line."""
    site = parse(arguments)
    asking = Asking(probes=probes()[:6], max_new_tokens=24)
    return replace(site, settings=replace(site.settings, asking=asking))


if __name__ == "__main__":
    sys.exit(main(quick))
