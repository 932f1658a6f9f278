"""`python -m xpert_services.access --store FOLDER --name NAME`: makes a token without a server, if the last one got lost."""

from __future__ import annotations

import argparse
import sys
from typing import cast, get_args

from pydantic import ValidationError

from xpert.core.errors import XpertError
from xpert.wire import TokenDraft
from xpert.wire.bodies import Scope
from xpert_services.access import Tokens
from xpert_services.store import open_store


def main(arguments: list[str] | None = None) -> int:
    """Make a token and print its secret; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m xpert_services.access", description="Make a token.")
    parser.add_argument("--store", required=True, help="folder, or s3://BUCKET[/PREFIX][?endpoint=...]")
    parser.add_argument("--name", required=True)
    parser.add_argument("--scope", choices=get_args(Scope), default="admin")
    parser.add_argument("--days", type=int, help="after which it expires")
    given = parser.parse_args(arguments)
    try:
        draft = TokenDraft(name=given.name, scope=cast("Scope", given.scope), days=given.days)
        sys.stdout.write(f"{Tokens(open_store(given.store)).make(draft).secret}\n")
    except (XpertError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
