"""`xpert catalogue`: gather entries, look at them, export them for phones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpert.cli.explain import overview, spelled
from xpert.cli.output import JsonOption, Output, table
from xpert.core.catalogue import Catalogue
from xpert.core.explanation import Explanation

app = typer.Typer(no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="Catalogue, NAME.catalogue.json.")]


@app.command()
def add(
    catalogue: FileArgument,
    entries: Annotated[list[Path], typer.Argument(help="Entries, NAME.entry.json, as `xpert explain --out` writes them.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace entries of the same name.")] = False,
    json_: JsonOption = False,
) -> None:
    """Add entries; the catalogue is made if it is not there."""
    loaded = [Explanation.load(path) for path in entries]
    known = Catalogue.load(catalogue) if catalogue.exists() else None
    found = known.add(*loaded, replace_existing=replace) if known else Catalogue.of(loaded)
    found.save(catalogue)
    Output(as_json=json_).show({"entries": [e.name for e in found.entries]}, f"{catalogue}: {len(found.entries)} pLLMs")


@app.command("list")
def list_(catalogue: FileArgument, json_: JsonOption = False) -> None:
    """List the pLLMs with their strongest words."""
    found = Catalogue.load(catalogue)
    Output(as_json=json_).show([entry.as_dict() for entry in found.entries], overview(found.entries))


@app.command()
def show(
    catalogue: FileArgument,
    name: Annotated[str, typer.Argument(help="The pLLM.")],
    json_: JsonOption = False,
) -> None:
    """Show all words of one pLLM."""
    entry = Catalogue.load(catalogue)[name]
    rows = [(w.word, w.coefficient, w.lower, w.upper, w.held_up) for w in entry.top(len(entry.words))]
    view = table(name, ("word", "coefficient", "from", "to", "held up"), rows)
    facts = f"strength {entry.strength:.1f}, residual {entry.residual_share:.0%}, {entry.n_probes} probes"
    Output(as_json=json_).show({**entry.as_dict(), "summary": [spelled(w) for w in entry.top()]}, view, facts)


@app.command()
def export(
    catalogue: FileArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, NAME.xcat.safetensors.")],
    json_: JsonOption = False,
) -> None:
    """Write the compact form for phones: at most 64 bytes a pLLM."""
    found = Catalogue.load(catalogue)
    each = found.export_compact(out)
    size = out.stat().st_size
    data = {"path": str(out), "bytes": size, "bytes_a_pllm": each, "pllms": len(found.entries)}
    Output(as_json=json_).show(data, f"{out}: {size:,} bytes, {each} a pLLM for {len(found.entries)} pLLMs")
