"""`xpert explain`: adapters, or ready answer pairs, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import EncoderOption, EngineOption, SpaceOption, open_encoder, open_space, short_name
from xpert.core.encoder import Encoder
from xpert.core.errors import InputError
from xpert.core.explanation import Explanation, WordCoefficient, explain_pairs
from xpert.core.files import cache_folder
from xpert.core.space import StyleSpace
from xpert.core.texts import read_pairs, read_texts


def explain(
    adapters: Annotated[list[str] | None, typer.Argument(help="Adapters: folders, starter:NAME or hub names.")] = None,
    base: Annotated[str | None, typer.Option("--base", "-b", help="Base model of the adapters.")] = None,
    pairs: Annotated[Path | None, typer.Option(help='Ready answers instead: lines {"prompt","base","pllm"}.')] = None,
    name: Annotated[str | None, typer.Option(help="Name for --pairs; default: the file's name.")] = None,
    probes: Annotated[Path | None, typer.Option(help="Prompts to ask, a line each; default: 40 of the StyleBank.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for NAME.entry.json files.")] = None,
    space: SpaceOption = None,
    engine: EngineOption = "torch",
    encoder: EncoderOption = None,
    json_: JsonOption = False,
) -> None:
    """Explain what makes pLLMs differ from their base: words with coefficients and 95 % intervals."""
    output = Output(as_json=json_)
    if bool(adapters) == bool(pairs) or (adapters and not base):
        raise InputError("Give either adapters with --base, or --pairs: xpert explain starter:poetic --base starter:base")
    if pairs:
        explanations = [_from_pairs(pairs, name or pairs.stem, open_space(space), open_encoder(engine, encoder))]
    else:
        where, reader = open_space(space), open_encoder(engine, encoder)
        explanations = _from_adapters(output, adapters or [], base or "", probes, where, reader)
    for explanation in explanations:
        if out:
            explanation.save(out / f"{explanation.name}.entry.json")
    output.show([explanation.as_dict() for explanation in explanations], overview(explanations))
    if out:
        output.say(f"Wrote {len(explanations)} entries to {out}. Next: xpert catalogue add CATALOGUE {out}/*.entry.json")


def _from_pairs(path: Path, name: str, space: StyleSpace, encoder: Encoder) -> Explanation:
    found = read_pairs(path)
    space.check_encoder(encoder)
    return explain_pairs(name, encoder.encode([p.base for p in found]), encoder.encode([p.pllm for p in found]), space)


def _from_adapters(
    output: Output, adapters: Sequence[str], base_name: str, probes: Path | None, space: StyleSpace, encoder: Encoder
) -> list[Explanation]:
    from xpert.models.base import load_base
    from xpert.models.explaining import explain_adapters

    named = {short_name(source): source for source in adapters}
    if len(named) < len(adapters):
        raise InputError("Two adapters have the same name. Rename a folder: the last part of the path is the pLLM's name.")
    with output.progress("probing") as report:
        found, _ = explain_adapters(
            load_base(base_name),
            named,
            space=space,
            encoder=encoder,
            probes=[text.text for text in read_texts(probes)] if probes else None,
            cache=cache_folder() / "answers",
            progress=report,
        )
    return found


def overview(explanations: Sequence[Explanation], *, n_words: int = 4) -> Table:
    """Lay out explanations, a pLLM a row."""
    rows = [
        (e.name, ", ".join(spelled(w) for w in e.top(n_words)), e.strength, f"{e.residual_share:.0%}", e.n_probes)
        for e in explanations
    ]
    return table("What the pLLMs are like", ("pLLM", "words (95 % interval)", "strength", "residual", "probes"), rows, left=2)


def spelled(word: WordCoefficient) -> str:
    """Write a word with its coefficient and interval; a question mark where it did not hold up."""
    mark = "" if word.held_up else "?"
    return f"{word.word}{mark} {word.coefficient:.2f} ({word.lower:.2f} to {word.upper:.2f})"
