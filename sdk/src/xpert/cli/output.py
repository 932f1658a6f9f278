"""What a command prints: tables for people on stdout, or one JSON document; progress and warnings on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from xpert.core.errors import XpertError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

Report = Callable[..., None]
"""``report(done, total, ...)``: what long-running calls report their progress to."""


class Output:
    """Prints the result of one command.

    Parameters
    ----------
    as_json
        Print the data as one JSON document on stdout; views are left out.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.warnings: list[str] = []
        self.console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self.errors = Console(stderr=True, highlight=False)

    def show(self, data: object, *views: RenderableType) -> None:
        """Print ``data`` as JSON, with the warnings where it is a mapping, or ``views`` for people."""
        if self.as_json:
            if isinstance(data, dict) and self.warnings:
                data = {**data, "warnings": self.warnings}
            sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        else:
            for view in views:
                self.console.print(view)

    def say(self, text: str) -> None:
        """Print a line for people only."""
        if not self.as_json:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, and keep it for the JSON document."""
        self.warnings.append(text)
        self.errors.print("[yellow]warning:[/]", escape(text))

    @contextmanager
    def progress(self, title: str) -> Iterator[Report]:
        """Show a bar on stderr while the block runs; yields the function to report to."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        quiet = self.as_json or not self.errors.is_terminal
        with Progress(*columns, console=self.errors, transient=True, disable=quiet) as bars:
            task = bars.add_task(title, total=None, note="")

            def report(done: int, total: int, *notes: object) -> None:
                note = " ".join(f"{n:.3f}" if isinstance(n, float) else str(n) for n in notes)
                bars.update(task, completed=done, total=total, note=note)

            yield report


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """Lay out ``rows`` under ``columns``; the first ``left`` columns are text, the others numbers."""
    view = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        view.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        view.add_row(*(cell(value) for value in row))
    return view


def cell(value: object) -> str:
    """Write one value of a table: two decimals for floats, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return escape(str(value))


def note(text: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def fail(error: XpertError) -> int:
    """Print ``error`` once, as JSON on stdout where ``--json`` was asked for, and return its exit status."""
    if "--json" in sys.argv:
        body: dict[str, Any] = {"error": {"code": error.code, "message": str(error)}}
        sys.stdout.write(json.dumps(body, ensure_ascii=False) + "\n")
    else:
        Console(stderr=True, highlight=False, soft_wrap=True).print("[red]error:[/]", escape(str(error)))
    return error.exit_code
