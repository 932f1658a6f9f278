"""Commands that other distributions add to `xpert`: found by entry point, not imported by name."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

GROUP = "xpert.commands"
"""Entry points ``name = typer app``: the app becomes the group `xpert name`."""


def add_found(app: typer.Typer) -> None:
    """Add every group of commands that an installed distribution offers."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        app.add_typer(point.load(), name=point.name)
