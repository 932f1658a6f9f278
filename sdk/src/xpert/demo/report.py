"""One self-contained HTML page: tables and pictures of a demo run, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from xpert.bench.starter import StarterCatalogue
from xpert.core.data import probes
from xpert.core.errors import MissingExtraError
from xpert.core.files import write_atomic
from xpert.demo.story import Story, Timing
from xpert.models.probing import BASE

N_SAMPLES = 2


@dataclass
class Demo:
    """What the demo gave.

    Attributes
    ----------
    starter
        The explained starter pLLMs.
    standing
        How good they are by their own evaluation.
    warnings
        User -> what makes the choice for this user unsure.
    stories
        One a user.
    pictures
        ``coefficients``, ``map`` and ``loss-USER`` -> PNG.
    report
        The HTML report.
    """

    starter: StarterCatalogue
    standing: str
    warnings: dict[str, list[str]]
    stories: list[Story]
    pictures: dict[str, Path]
    report: Path


def write_report(demo: Demo) -> None:
    """Write the report to its place.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    StorageError
        The disk is full, or the place cannot be written to.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("The report needs jinja2. Install it with: pip install 'xpert[plots]'") from error
    template = files("xpert").joinpath("demo", "report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined).from_string(template)
    asked = probes()
    samples = [
        (name or "base", [(asked[i], row[i]) for i in range(N_SAMPLES)])
        for name, row in sorted(demo.starter.answers.items(), key=lambda item: (item[0] != BASE, item[0]))
    ]
    html = page.render(
        demo=demo,
        columns=Timing.COLUMNS,
        samples=samples,
        pictures={name: base64.b64encode(picture.read_bytes()).decode() for name, picture in demo.pictures.items()},
    )
    write_atomic(demo.report, html.encode())
