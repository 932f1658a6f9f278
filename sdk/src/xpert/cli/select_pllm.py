"""`xpert select`: the pLLM nearest to a user's texts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape

from xpert.cli.explain import spelled
from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import (
    EncoderOption,
    EngineOption,
    RememberingEncoder,
    SpaceOption,
    open_candidates,
    open_encoder,
    open_space,
)
from xpert.core.catalogue import Candidates
from xpert.core.errors import InputError, MismatchError
from xpert.core.files import cache_folder
from xpert.core.selection import Selection, choose
from xpert.core.space import Matrix
from xpert.core.texts import PersonalText, read_texts, warn_about


def select(
    texts: Annotated[Path, typer.Argument(help='Texts: .jsonl {"text","prompt"?}, .txt, .csv or .parquet.')],
    catalogue: Annotated[
        str, typer.Option("--catalogue", "-c", help="Catalogue, readable or compact, or SERVER/v1/catalogues/BASE.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", "-b", help="Base model to answer the texts' prompts: surer, but an LLM runs.")
    ] = None,
    space: SpaceOption = None,
    engine: EngineOption = "torch",
    encoder: EncoderOption = None,
    cells: Annotated[
        int | None, typer.Option(min=1, max=128, help="Of a server's large catalogue: cells to ask for, yours among decoys; 8.")
    ] = None,
    whole_kib: Annotated[
        int | None,
        typer.Option(min=0, help="A server's catalogue up to this size is fetched whole; else what the cells come to."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Choose the pLLM nearest to your texts, or abstain. Nothing leaves this machine."""
    output = Output(as_json=json_)
    found = read_texts(texts)
    for warning in warn_about(found):
        output.warn(warning)
    where, reader = open_space(space), RememberingEncoder(open_encoder(engine, encoder))
    where.check_encoder(reader)

    def mine() -> Matrix:
        return where.coefficients(reader.encode([text.text for text in found]))

    most_whole = None if whole_kib is None else whole_kib * 1024
    candidates = open_candidates(catalogue, output, mine=mine, cells=cells, most_whole=most_whole)
    selection = choose(
        found,
        candidates,
        space=where,
        encoder=reader,
        base_answers=_base_answers(base, found, candidates) if base else None,
    )
    output.show({**asdict(selection), "choice": selection.choice}, *views(selection))


def _base_answers(base_name: str, texts: list[PersonalText], candidates: Candidates) -> list[str]:
    from xpert.models.base import load_base
    from xpert.models.probing import BASE, answer_probes

    prompts = [text.prompt for text in texts if text.prompt]
    if len(prompts) < len(texts):
        raise InputError(f"--base needs a prompt with every text, {len(texts) - len(prompts)} have none. Leave --base out.")
    base = load_base(base_name)
    if base.digest != candidates.base_digest:
        raise MismatchError(
            f"The catalogue is of the base {candidates.base_digest[:12]}, '{base_name}' is {base.digest[:12]}. Give the one that "
            "its pLLMs were explained against, or leave --base out."
        )
    return answer_probes(base, {}, prompts, cache=cache_folder() / "answers")[BASE]


def views(selection: Selection, *, n: int = 5, predict: bool = True) -> list[RenderableType]:
    """Lay out a selection for people, by default with the saving that is expected."""
    rows = [
        (m.name, f"{m.probability:.1%}", f"{m.similarity:.0%}", f"{m.adapter_bytes / 1024:,.0f} KiB")
        for m in selection.matches[:n]
    ]
    ranking = table("Nearest pLLMs", ("pLLM", "probability", "similarity", "download"), rows)
    words = ", ".join(spelled(word) for word in selection.words[:4])
    name = escape("Abstain" if selection.choice is None else selection.choice)
    verdict = f"[bold]{name}[/]: {escape(selection.reason)}"
    saving = (
        f"Expected saving, choosing counted: {selection.expected_saving:.0%} of the fine-tuning time. That is the paper's table "
        "for texts this similar, measured on Llama-3.2-1B; a tiny base saves less."
    )
    return [f"Your texts: {words}", ranking, verdict, *([saving] if predict and not selection.abstain else [])]
