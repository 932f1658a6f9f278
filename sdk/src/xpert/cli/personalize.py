"""`xpert personalize`: fine-tune on the user's texts, from a pLLM or from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import BaseOption
from xpert.core.files import cache_folder
from xpert.core.runtime import PersonalizeOptions, find_runtime
from xpert.core.texts import read_texts, warn_about


def personalize(
    texts: Annotated[Path, typer.Argument(help='Texts: .jsonl {"text","prompt"?}, .txt, .csv or .parquet.')],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the adapter, in PEFT's format.")],
    start: Annotated[str | None, typer.Option("--from", help="pLLM to start from; without, from scratch.")] = None,
    base: BaseOption = "starter:base",
    max_steps: Annotated[int, typer.Option(min=1, help="Most training steps.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Seed of the order, the split and a new adapter.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    runtime: Annotated[str, typer.Option(help="Device runtime that trains.")] = "executorch",
    json_: JsonOption = False,
) -> None:
    """Fine-tune on your texts, on this device; a run that was cut off goes on."""
    from xpert.models.names import resolve

    output = Output(as_json=json_)
    found = read_texts(texts)
    for warning in warn_about(found):
        output.warn(warning)
    options = PersonalizeOptions(
        max_steps=max_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, threads=threads
    )
    engine = find_runtime(runtime)
    with output.progress("fine-tuning") as report:
        result = engine.personalize(
            resolve(base),
            found,
            out,
            init_adapter=resolve(start) if start else None,
            options=options,
            cache=cache_folder() / engine.name,
            progress=report,
        )
    data = {
        "adapter": str(result.adapter),
        "steps": result.steps,
        "seconds": result.seconds,
        "losses": result.losses,
        "held_out": result.held_out,
    }
    rows = [(step, f"{loss:.3f}") for step, loss in result.held_out]
    output.show(data, table("Held-out loss (nats a token)", ("step", "loss"), rows, left=0))
    output.say(f"Wrote {out} after {result.steps} steps in {result.seconds:.1f} s; it loads in PEFT as it is.")
