"""`python -m xpert_starter.recipe`: make the starter models from the data, stage by stage; what is there is not made again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from safetensors.torch import load_file, save_file

from xpert.core.encoder import Encoder
from xpert.core.errors import InputError, XpertError
from xpert.core.files import write_json
from xpert.models.adapters import BASE_KEY
from xpert.models.base import load_base
from xpert.models.encoders import default_encoder
from xpert.models.probing import BASE, answer_probes
from xpert_starter.recipe import adapters
from xpert_starter.recipe.cards import write_base_card, write_card
from xpert_starter.recipe.evaluate import Judge, StyleFigures, as_table
from xpert_starter.recipe.pretrain import pretrain
from xpert_starter.recipe.teach import teach

STAGES = ("pretrain", "teach", "adapters", "evaluate")
SAMPLES = (0, 2, 5)
"""Probe prompts shown in the cards."""

console = Console(highlight=False)


def main(
    stages: Annotated[list[str] | None, typer.Argument(help=f"Stages to run, of {', '.join(STAGES)}; default: all.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with gutenberg/*.txt.gz; default: XPERT_DATA.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the models.")] = Path("out/starter"),
    init: Annotated[Path | None, typer.Option(help="Base for `teach` to start from, in place of `pretrain`.")] = None,
    pretrain_minutes: Annotated[float, typer.Option(min=0, help="Time for the books.")] = 70.0,
    teach_minutes: Annotated[float, typer.Option(min=0, help="Time for the StyleBank.")] = 50.0,
    only: Annotated[list[str] | None, typer.Option(help="pLLMs to make; default: all.")] = None,
    compiled: Annotated[bool, typer.Option(help="Compile the training step.")] = True,
) -> None:
    """Make the starter models again; each stage goes on where it was cut off."""
    wanted = stages or list(STAGES)
    unknown = sorted(set(wanted) - set(STAGES))
    where = data or (Path(os.environ["XPERT_DATA"]) if "XPERT_DATA" in os.environ else None)
    if unknown:
        raise InputError(f"There is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}.")
    books, base = out / "work" / "pretrained", out / "models" / "base"
    if "pretrain" in wanted and init is None and not books.exists():
        if where is None:
            raise InputError("Pretraining needs the books: give --data FOLDER or set XPERT_DATA; or --init BASE to go without.")
        pretrain(where, books, minutes=pretrain_minutes, compiled=compiled, say=console.print)
    if "teach" in wanted and not base.exists():
        teach(init or books, base, minutes=teach_minutes, compiled=compiled, say=console.print)
    if "adapters" in wanted:
        make_adapters(out, only or [*styles(), *adapters.MIXED])
    if "evaluate" in wanted:
        evaluate(out, default_encoder())


def styles() -> list[str]:
    """List the StyleBank's styles."""
    from xpert.core.data import stylebank

    return sorted({text.style for text in stylebank()} - {"neutral"})


def make_adapters(out: Path, names: list[str]) -> None:
    """Train the adapters that are not there yet."""
    base = load_base(out / "models" / "base")
    start = out / "work" / "start"
    if not start.exists():
        adapters.write_start(base, start)
    for name in names:
        folder = out / "models" / name
        if not folder.exists():
            result = adapters.train(base, name, folder, start=start)
            halve(folder)
            console.print(f"{name}: held-out loss {result.held_out[0][1]:.3f} to {min(l for _, l in result.held_out):.3f}")


def halve(folder: Path) -> None:
    """Store an adapter in half precision, bound to its base as before."""
    path = folder / "adapter_model.safetensors"
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        digest = (file.metadata() or {}).get(BASE_KEY, "")
    weights = {name: value.to(torch.float16) for name, value in load_file(path).items()}
    save_file(weights, path, metadata={BASE_KEY: digest})


def evaluate(out: Path, encoder: Encoder) -> dict[str, StyleFigures]:
    """Judge all pLLMs on unseen prompts; writes evaluation.json and the cards."""
    models = out / "models"
    base = load_base(models / "base")
    judge = Judge(base, encoder)
    names = sorted(path.parent.name for path in models.glob("*/adapter_config.json"))
    loaded = {name: base.adapter(models / name) for name in names}
    answers = answer_probes(base, loaded, judge.prompts, cache=out / "work" / "answers")
    figures = {name: judge.figures(answers[name], adapters.styles_of(name)) for name in names}
    for name, found in figures.items():
        samples = [(judge.prompts[i], answers[BASE][i], answers[name][i]) for i in SAMPLES]
        write_card(models / name, found, samples, name=name)
        console.print(f"{name}: fluent {found.fluent:.0%}, recognized {found.recognized:.0%}, both {found.both:.0%}")
    write_base_card(models / "base", judge.controls, judge.limit)
    write_json(
        models / "evaluation.json",
        {"prompts": "b121-b160", "limit": judge.limit, "controls": judge.controls, "pllms": as_table(figures)},
    )
    return figures


if __name__ == "__main__":
    try:
        typer.run(main)
    except XpertError as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        raise SystemExit(error.exit_code) from error
