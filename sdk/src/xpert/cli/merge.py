"""`xpert merge`: mix pLLMs by task arithmetic, with given weights or with those that fit a user best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import (
    EncoderOption,
    EngineOption,
    SpaceOption,
    find_adapter,
    open_candidates,
    open_encoder,
    open_space,
    short_name,
)
from xpert.core.errors import InputError
from xpert.core.merging import MergeRecipe, Source, solve_merge
from xpert.core.selection import differences
from xpert.core.texts import read_texts, warn_about

WeightedArgument = Annotated[list[str] | None, typer.Argument(help="ADAPTER=WEIGHT …, such as starter:expert=0.6.")]


def merge(
    sources: WeightedArgument = None,
    texts: Annotated[Path | None, typer.Option("--for", help="Solve the weights for these texts instead.")] = None,
    catalogue: Annotated[str | None, typer.Option("--catalogue", "-c", help="Catalogue for --for, or its address.")] = None,
    adapters: Annotated[str, typer.Option(help="Where --for finds adapters: a folder of theirs, or starter:")] = "starter:",
    base: Annotated[str | None, typer.Option("--base", "-b", help="Base model: checks the adapters; needed for --full.")] = None,
    rank: Annotated[int | None, typer.Option(help="Truncate to this rank; the error is reported.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Write a full model instead of an adapter.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; without, weights are only shown.")] = None,
    space: SpaceOption = None,
    engine: EngineOption = "torch",
    encoder: EncoderOption = None,
    json_: JsonOption = False,
) -> None:
    """Merge pLLMs: base + sum of weight x (pLLM - base), exactly, as one adapter or a full model."""
    output = Output(as_json=json_)
    if bool(sources) == bool(texts) or (texts and not catalogue) or (full and not base) or (full and rank):
        raise InputError("Give either ADAPTER=WEIGHT … or --for TEXTS with --catalogue; --full needs --base and takes no --rank.")
    data: dict[str, object] = {}
    if texts and catalogue:
        candidates, where = open_candidates(catalogue, output), open_space(space)
        reader = open_encoder(engine, encoder)
        where.check_encoder(reader)
        candidates.check_space(where)
        found = read_texts(texts)
        for warning in warn_about(found):
            output.warn(warning)
        single = differences(where.coefficients(reader.encode([t.text for t in found])), candidates)
        digests = dict(zip(candidates.names, candidates.adapter_ids, strict=True))
        proposal = solve_merge(single.mean(0), candidates, n_texts=len(found), digests=digests)
        weighted = {s.name: s.weight for s in proposal.recipe.sources}
        if out:
            weighted = {find_adapter(adapters, name, digests[name]): weight for name, weight in weighted.items()}
        data = {
            "distance": proposal.distance,
            "single": proposal.single,
            "single_distance": proposal.single_distance,
            "wins": proposal.wins,
        }
        verdict = "the mix wins" if proposal.wins else "the single one is as good"
        output.say(
            f"Distance {proposal.distance:.1f} against {proposal.single_distance:.1f} of '{proposal.single}' alone: {verdict}."
        )
    else:
        weighted = dict(parse_weighted(item) for item in sources or [])
    if out:
        data |= _write(weighted, base, rank, full, out)
    rows = [(short_name(name), weight) for name, weight in weighted.items()]
    output.show({"sources": weighted, **data}, table("Mix", ("pLLM", "weight"), rows))
    if out:
        output.say(f"Wrote {out}, error of truncation {data['error']:.2%}.")


def parse_weighted(item: str) -> tuple[str, float]:
    """Read NAME=WEIGHT.

    Raises
    ------
    InputError
        It is something else.
    """
    name, mark, weight = item.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        mark = ""
    if not mark or not name:
        raise InputError(f"'{item}' is no ADAPTER=WEIGHT. Write for example starter:expert=0.6.")
    return name, value


def _write(weighted: dict[str, float], base: str | None, rank: int | None, full: bool, out: Path) -> dict[str, object]:
    from xpert.models.adapters import read_adapter, write_adapter
    from xpert.models.merging import merge_adapters, merge_full
    from xpert.models.names import resolve

    if base:
        from xpert.models.base import load_base

        model = load_base(base)
        loaded = [(model.adapter(name), weight) for name, weight in weighted.items()]
    else:
        loaded = [(read_adapter(resolve(name)), weight) for name, weight in weighted.items()]
    merged = merge_adapters(loaded, rank=rank)
    recipe = MergeRecipe(
        base_digest=merged.adapter.base_digest,
        sources=tuple(
            Source(name=short_name(name), adapter_digest=adapter.digest, weight=weight)
            for name, (adapter, weight) in zip(weighted, loaded, strict=True)
        ),
        method="svd" if rank else "exact",
        rank=rank,
        error=merged.error,
    )
    if full and base:
        merge_full(model, loaded, out)
    else:
        write_adapter(out, merged.adapter, base_name=base or "")
    recipe.save(out / "recipe.json")
    return {"path": str(out), "error": merged.error}
