"""One self-contained HTML page: tables and pictures of a demo run, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from xpert.bench.starter import StarterCatalogue
from xpert.core.data import probes
from xpert.core.errors import MissingExtraError
from xpert.core.files import write_atomic
from xpert.demo.story import Story
from xpert.models.probing import BASE

N_SAMPLES = 2


def write_report(starter: StarterCatalogue, stories: Sequence[Story], pictures: Mapping[str, Path], path: Path) -> Path:
    """Write the report.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise MissingExtraError("The report needs jinja2. Install it with: pip install 'xpert[plots]'") from error
    template = files("xpert").joinpath("demo", "report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    asked = probes()
    samples = [
        (name or "base", [(asked[i], row[i]) for i in range(N_SAMPLES)])
        for name, row in sorted(starter.answers.items(), key=lambda item: (item[0] != BASE, item[0]))
    ]
    html = page.render(
        entries=starter.catalogue.entries,
        stories=stories,
        samples=samples,
        pictures={title: base64.b64encode(picture.read_bytes()).decode() for title, picture in pictures.items()},
    )
    write_atomic(path, html.encode())
    return path
