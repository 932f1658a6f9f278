"""`xpert server space`: the style spaces that a server explains pLLMs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.remote import ServerOption, WaitOption, open_client, show_job

if TYPE_CHECKING:
    from xpert.wire import Space

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_spaces(server: ServerOption = None, json_: JsonOption = False) -> None:
    """List the style spaces of a server."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        _show(output, list(client.spaces()))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The space, NAME.space.safetensors, as xpert space build writes it.")],
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """Bring a style space to a server."""
    output = Output(as_json=json_)
    with open_client(server, output) as client, output.progress("push") as report:
        _show(output, [client.add_space(file, progress=report)])


@app.command()
def build(
    name: Annotated[str, typer.Option(help="Name of the space.")],
    exemplars: Annotated[
        Path | None, typer.Argument(help='Lines {"id","prompt","style","text"}, style "neutral" included; without, XPerT\'s own.')
    ] = None,
    word: Annotated[list[str] | None, typer.Option(help="Take this style; may be given again. Without, all.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Its version.")] = 1,
    probes: Annotated[Path | None, typer.Option(help="What pLLMs are asked in it, a line each; without, the server's.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Refuse a server that has another sentence encoder.")] = None,
    server: ServerOption = None,
    wait: WaitOption = False,
    json_: JsonOption = False,
) -> None:
    """Have a server build a style space from exemplars; whoever has a token can read them."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        with output.progress("push") as report:
            job = client.build_space(
                exemplars, name=name, version=version, words=word or (), probes=probes, encoder=encoder, progress=report
            )
        show_job(client, output, job.id, wait=wait)


def _show(output: Output, spaces: list[Space]) -> None:
    rows = [(s.name, s.version, ", ".join(s.words), "own" if s.probes else "the server's", s.digest[:12]) for s in spaces]
    columns = ("space", "version", "words", "probes", "digest")
    output.show([space.model_dump(mode="json") for space in spaces], table("Style spaces", columns, rows, left=5))
