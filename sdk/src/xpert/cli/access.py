"""`xpert server token` and `xpert server audit`: who may ask a server, and who wrote what."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Literal

import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.remote import ServerOption, open_client

app = typer.Typer(no_args_is_help=True)
# Typer takes an enumeration or a literal; xpert.wire, which has this one, is loaded when a command runs.
ScopeName = Literal["read", "publish", "admin"]


@app.command("list")
def list_tokens(server: ServerOption = None, json_: JsonOption = False) -> None:
    """List the tokens of a server, without their secrets."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        found = list(client.tokens())
    rows = [(t.id, t.name, t.scope, f"{t.created:%Y-%m-%d}", f"{t.expires:%Y-%m-%d}" if t.expires else "never") for t in found]
    columns = ("id", "name", "scope", "made", "expires")
    output.show([token.model_dump(mode="json", exclude={"secret"}) for token in found], table("Tokens", columns, rows, left=5))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="For whom or what it is.")],
    scope: Annotated[ScopeName, typer.Option(help="What it may do.")] = "read",
    days: Annotated[int | None, typer.Option(help="Days until it expires; without, it does not.")] = None,
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """Make a token; its secret is shown this once."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        made = client.add_token(name, scope=scope, days=days)
    output.show(made.model_dump(mode="json"), f"{made.secret}")
    output.say(f"Token {made.id} ({made.scope}): keep it, the server does not show it again.")


@app.command()
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `xpert server token list` shows it.")],
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """Refuse a token from now on."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        client.revoke_token(id_)
    output.show({"revoked": id_}, f"Revoked {id_}")


def audit(
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="So many of the newest.")] = 50,
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """Show who wrote what on a server, newest first."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        found = list(islice(client.audit(), most))
    rows = [(f"{e.at:%Y-%m-%d %H:%M:%S}", e.token, e.method, e.path, e.status) for e in found]
    output.show(
        [entry.model_dump(mode="json") for entry in found], table("Writes", ("at", "by", "", "path", "status"), rows, left=4)
    )
