"""Exemplars of a style space: the same prompts answered neutrally and in styles, from a person's file and between programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xpert.core.data import StyledText
from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, write_json
from xpert.core.space import NEUTRAL
from xpert.core.texts import json_lines

FORMAT = "xpert-exemplars"
FORMAT_VERSION = 1
KEYS = ("id", "prompt", "style", "text")
MAX_PROBLEMS = 8
N_PROBES = (4, 1000)
"""Fewest and most probes of a space: from fewer nothing can be said of the noise, more would take a day."""

MOST_LETTERS = 2000
"""Of a probe."""


@dataclass(frozen=True)
class Exemplars:
    """What a style space is built from, and what pLLMs are asked that are explained in it.

    Attributes
    ----------
    texts
        The same prompts answered neutrally and in styles.
    probes
        Prompts for base and pLLMs; empty: those that the server has.
    """

    texts: tuple[StyledText, ...]
    probes: tuple[str, ...] = ()


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


def chosen(texts: Sequence[StyledText], words: Sequence[str]) -> list[StyledText]:
    """Return the texts of some styles, with the neutral ones that they are told from.

    Raises
    ------
    InputError
        One of ``words`` is no style of these texts.
    """
    there = {text.style for text in texts} - {NEUTRAL}
    if missing := sorted(set(words) - there):
        raise InputError(f"No exemplars are in the style {', '.join(map(repr, missing))}. There are {', '.join(sorted(there))}.")
    return [text for text in texts if text.style == NEUTRAL or text.style in words]


def check_probes(probes: Sequence[str]) -> None:
    """Refuse probes that cannot be asked.

    Raises
    ------
    InputError
        There are too few or too many, or one is empty, too long, or there twice.
    """
    least, most = N_PROBES
    problems = [] if least <= len(probes) <= most else [f"there are {len(probes)}, expected {least} to {most}"]
    problems += [f"probe {i} is empty" for i, probe in enumerate(probes, 1) if not probe.strip()]
    problems += [
        f"probe {i} has more than {MOST_LETTERS} letters" for i, probe in enumerate(probes, 1) if len(probe) > MOST_LETTERS
    ]
    if len(set(probes)) < len(probes):
        problems.append("some are there twice")
    if problems:
        raise InputError(f"Cannot use these probes: {'; '.join(problems[:MAX_PROBLEMS])}.")


def save_exemplars(path: Path, texts: Sequence[StyledText], *, probes: Sequence[str] = ()) -> None:
    """Write exemplars, and probes where there are any, as one JSON document, the same bytes for the same texts."""
    document = {"format": FORMAT, "version": FORMAT_VERSION, "exemplars": [asdict(text) for text in texts]}
    write_json(path, document | ({"probes": list(probes)} if probes else {}))


def load_exemplars(path: Path) -> Exemplars:
    """Read what `save_exemplars` wrote.

    Raises
    ------
    FileFormatError
        It is something else, an exemplar lacks a part, or its probes cannot be asked.
    """
    document = read_json(path, format=FORMAT, max_version=FORMAT_VERSION)
    rows, probes = document.get("exemplars"), document.get("probes", [])
    if not isinstance(rows, list):
        raise FileFormatError(f"'{path}' holds no list of exemplars. Make it from a file of exemplars again.")
    found = [_exemplar(row) for row in rows]
    wrong = [str(number) for number, text in enumerate(found, 1) if text is None]
    if wrong:
        shown = ", ".join(wrong[:MAX_PROBLEMS])
        raise FileFormatError(f'In \'{path}\', exemplars {shown} lack texts under "id", "prompt", "style" or "text".')
    if not isinstance(probes, list) or not all(isinstance(probe, str) for probe in probes):
        raise FileFormatError(f"'{path}' holds no list of probes. Make it from a file of probes again.")
    if probes:
        try:
            check_probes(probes)
        except InputError as error:
            raise FileFormatError(f"In '{path}': {error}") from error
    return Exemplars(tuple(text for text in found if text is not None), tuple(probes))


def _exemplar(row: object) -> StyledText | None:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in KEYS):
        return None
    return StyledText(*(row[key] for key in KEYS))
