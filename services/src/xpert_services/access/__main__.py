"""`python -m xpert_services.access --store FOLDER`: tokens without a server, for who lost the last one or may not ask it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import cast, get_args

from pydantic import ValidationError

from xpert.core.errors import XpertError
from xpert.wire import Token, TokenDraft
from xpert.wire.bodies import Scope
from xpert_services.access import Signer, Tokens
from xpert_services.store import Store, open_store

PAGE = 1000


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m xpert_services.access", description="Make, list or remove tokens.")
    found.add_argument("--store", required=True, help="folder, or s3://BUCKET[/PREFIX][?endpoint=...]")
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="make a token of this name; its secret is shown this once")
    what.add_argument("--list", action="store_true", help="show the tokens, a line of JSON each, without secrets")
    what.add_argument("--remove", metavar="ID", help="refuse a token from now on; servers that run follow within seconds")
    what.add_argument("--renew-signing-key", action="store_true", help="make signed addresses invalid; servers need a restart")
    found.add_argument("--scope", choices=get_args(Scope), default="admin", help="of the token that is made")
    found.add_argument("--days", type=int, help="after which it expires")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Do it; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        for line in _do(open_store(given.store), given):
            sys.stdout.write(f"{line}\n")
    except (XpertError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 3)
    return 0


def _do(store: Store, given: argparse.Namespace) -> Iterator[str]:
    """Yield what is to be shown."""
    tokens = Tokens(store)
    if given.name is not None:
        yield str(tokens.make(TokenDraft(name=given.name, scope=cast("Scope", given.scope), days=given.days)).secret)
    elif given.list:
        yield from (token.model_dump_json(exclude={"secret"}) for token in _all(tokens))
    elif given.remove is not None:
        tokens.remove(given.remove)
    else:
        Signer(store).renew_key()


def _all(tokens: Tokens) -> Iterator[Token]:
    after = None
    while True:
        page = tokens.page(after=after, limit=PAGE)
        yield from page.items
        after = page.next
        if after is None:
            return


if __name__ == "__main__":
    sys.exit(main())
