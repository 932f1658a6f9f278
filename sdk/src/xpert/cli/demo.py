"""`xpert demo`: the main job on real models, step by step."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape

from xpert.cli.explain import overview
from xpert.cli.output import JsonOption, Output, table
from xpert.cli.select_pllm import views
from xpert.core.data import users as example_users
from xpert.core.errors import InputError
from xpert.core.texts import PersonalText, read_texts

if TYPE_CHECKING:
    from xpert.bench.starter import StarterCatalogue
    from xpert.demo.story import Story

DEFAULT_USERS = ("u01", "u08", "u10")
"""One whose style is there, one between two styles where a mix is nearer, and one near nothing."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path("out/demo"),
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="Example users u01 to u10; may be repeated.")] = None,
    texts: Annotated[Path | None, typer.Option(help="Your own texts instead: .jsonl, .txt, .csv or .parquet.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Device runtime; default: native, the phone's own core, where it is built, else executorch, its reference."
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Watch the whole of XPerT: explain, choose, merge, fine-tune; ends with pictures and a report."""
    from xpert.demo.run import run_demo

    output = Output(as_json=json_)

    def show(result: StarterCatalogue | Story) -> None:
        if not json_:
            for view in _views(result):
                output.console.print(view)

    done = run_demo(_texts(user, texts), out, say=output.say, warn=output.warn, bar=output.progress, show=show, runtime=runtime)
    data = {
        "report": str(done.report),
        "pictures": [str(path) for path in done.pictures.values()],
        "standing": done.standing,
        "users": {
            story.user: {
                "warnings": done.warnings[story.user],
                "choice": story.selection.choice,
                "reason": story.selection.reason,
                "confidence": story.selection.confidence,
                "merge": [(source.name, source.weight) for source in story.merge.recipe.sources],
                "merge_wins": story.merge.wins,
                "outcome": story.outcome,
                "balance": story.balance,
                "adapters": {start: str(run.adapter) for start, run in story.runs.items()},
                "runs": [asdict(row) for row in story.timings()],
            }
            for story in done.stories
        },
    }
    output.show(data, f"\n[bold]Open {escape(str(done.report))} in a browser.[/]")


def _texts(names: list[str] | None, path: Path | None) -> dict[str, list[PersonalText]]:
    if path and names:
        raise InputError(f"Found both --user {' '.join(names)} and --texts {path}, expected one of them. Leave one out.")
    if path:
        return {path.stem: read_texts(path)}
    known: dict[str, list[PersonalText]] = {}
    for row in example_users():
        known.setdefault(row.user, []).append(PersonalText(row.text, row.prompt))
    wanted = names or list(DEFAULT_USERS)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(f"There is no example user {', '.join(missing)}; there are {', '.join(known)}. Or give --texts FILE.")
    return {name: known[name] for name in wanted}


def _views(result: StarterCatalogue | Story) -> list[RenderableType]:
    from xpert.demo.story import Story, Timing

    if not isinstance(result, Story):
        return [overview(result.catalogue.entries)]
    # What is saved is measured here, on a base that the paper's table says nothing of.
    found = [*views(result.selection, n=3, predict=False), escape(result.mix)]
    if result.measured:
        title = f"Fine-tuning for {result.user} to the held-out loss {result.target:.2f}"
        found.append(table(title, Timing.COLUMNS, [row.cells for row in result.timings()]))
    return [*found, *(said for said in (result.balance, result.outcome) if said)]
