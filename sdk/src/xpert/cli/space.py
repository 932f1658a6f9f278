"""`xpert space`: build and look at style spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import EncoderOption, EngineOption, open_encoder, open_space
from xpert.core.data import axis_texts
from xpert.core.exemplars import read_exemplars
from xpert.core.space import StyleSpace, build_space

app = typer.Typer(no_args_is_help=True)


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, NAME.space.safetensors.")],
    exemplars: Annotated[
        Path | None, typer.Option(help='Lines {"id","prompt","style","text"}, style "neutral" included; default: bundled.')
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the space.")] = "default",
    engine: EngineOption = "torch",
    encoder: EncoderOption = None,
    json_: JsonOption = False,
) -> None:
    """Build a style space from texts in a neutral and in other styles."""
    output = Output(as_json=json_)
    texts = read_exemplars(exemplars) if exemplars else axis_texts()
    reader = open_encoder(engine, encoder)
    with output.progress("encoding the exemplars") as report:
        space = build_space(texts, reader, name=name, progress=report)
    space.save(out)
    _show(output, space, path=str(out))


@app.command()
def show(
    path: Annotated[Path | None, typer.Argument(help="Style space; default: the one that comes with xpert.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show a style space's words and how much they overlap."""
    _show(Output(as_json=json_), open_space(path), path=str(path or "the default"))


def _show(output: Output, space: StyleSpace, *, path: str) -> None:
    axes = space.axes.astype(float)
    length = np.linalg.norm(axes, axis=1)
    cosine = (axes @ axes.T) / np.outer(length, length) - 2 * np.eye(len(axes))
    rows = [
        (word, float(length[i]), space.words[j], float(cosine[i, j]))
        for i, word in enumerate(space.words)
        for j in [cosine[i].argmax()]
    ]
    data = {
        "name": space.name,
        "version": space.version,
        "encoder": space.encoder,
        "digest": space.digest,
        "words": [{"word": w, "length": n, "nearest": near, "cosine": c} for w, n, near, c in rows],
    }
    view = table(f"{space.name}, version {space.version}, {path}", ("word", "length", "nearest word", "cosine"), rows)
    output.show(data, view, f"encoder {space.encoder}, digest {space.digest[:12]}")
