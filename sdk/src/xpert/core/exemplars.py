"""Exemplars of a style space: the same prompts answered neutrally and in styles, from a person's file and between programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from xpert.core.data import StyledText
from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, write_json
from xpert.core.texts import json_lines

FORMAT = "xpert-exemplars"
FORMAT_VERSION = 1
KEYS = ("id", "prompt", "style", "text")
MAX_PROBLEMS = 8


def read_exemplars(path: Path) -> list[StyledText]:
    """Read exemplars that a person wrote: JSON Lines of ``{"id", "prompt", "style", "text"}``.

    Raises
    ------
    FileFormatError, InputError
        A line is not JSON, or lacks a part.
    """
    found = [(place, _exemplar(row)) for place, row in json_lines(path)]
    problems = [place for place, text in found if text is None]
    if problems:
        shown = ", ".join(problems[:MAX_PROBLEMS])
        raise InputError(f'In \'{path}\', {shown} lack texts under "id", "prompt", "style" or "text".')
    return [text for _, text in found if text is not None]


def save_exemplars(path: Path, texts: Sequence[StyledText]) -> None:
    """Write exemplars as one JSON document, the same bytes for the same texts."""
    write_json(path, {"format": FORMAT, "version": FORMAT_VERSION, "exemplars": [asdict(text) for text in texts]})


def load_exemplars(path: Path) -> list[StyledText]:
    """Read what `save_exemplars` wrote.

    Raises
    ------
    FileFormatError
        It is something else, or an exemplar lacks a part.
    """
    rows = read_json(path, format=FORMAT, max_version=FORMAT_VERSION).get("exemplars")
    if not isinstance(rows, list):
        raise FileFormatError(f"'{path}' holds no list of exemplars. Make it from a file of exemplars again.")
    found = [_exemplar(row) for row in rows]
    wrong = [str(number) for number, text in enumerate(found, 1) if text is None]
    if wrong:
        shown = ", ".join(wrong[:MAX_PROBLEMS])
        raise FileFormatError(f'In \'{path}\', exemplars {shown} lack texts under "id", "prompt", "style" or "text".')
    return [text for text in found if text is not None]


def _exemplar(row: object) -> StyledText | None:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in KEYS):
        return None
    return StyledText(*(row[key] for key in KEYS))
