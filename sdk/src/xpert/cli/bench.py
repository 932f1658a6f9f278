"""`xpert bench`: each benchmark prints its figures beside the aims and can write its record."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from xpert.bench.aims import page, rows
from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import open_encoder
from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import cache_folder, read_bytes, write_atomic

app = typer.Typer(no_args_is_help=True)

WriteOption = Annotated[Path | None, typer.Option("--write", help="Folder to write the record to, as NAME.json.")]
AUTHORS = "xpert-authors/synthetic-a.jsonl.gz"


@app.command()
def selection(
    data: Annotated[Path, typer.Option(help='Records {"style","context","input","response"}, style 0 the base; .jsonl or .gz.')],
    trials: Annotated[int, typer.Option(min=1, help="Choices a figure.")] = 2000,
    engine: Annotated[str, typer.Option(help="What runs the encoder.")] = "executorch",
    write: WriteOption = None,
    json_: JsonOption = False,
) -> None:
    """Accuracy on any file of parallel answers, beside baselines, chance and the paper."""
    from xpert.bench.selection import run_selection

    output = Output(as_json=json_)
    with output.progress("encoding") as report:
        record = run_selection(data, open_encoder(engine), cache=_cache(), trials=trials, progress=report)
    _finish(output, record, write)


@app.command("selection-28")
def selection_28(
    trials: Annotated[int, typer.Option(min=1, help="Choices a figure.")] = 2000,
    plot: Annotated[Path | None, typer.Option(help="PNG of the confidences' reliability to write.")] = None,
    write: WriteOption = None,
    json_: JsonOption = False,
) -> None:
    """Accuracy and calibration among 28 candidates of the StyleBank, as many as the paper has."""
    from xpert.bench.selection import run_candidates

    output = Output(as_json=json_)
    with output.progress("encoding") as report:
        record = run_candidates(open_encoder("executorch"), cache=_cache(), trials=trials, progress=report)
    plot = plot or (write / "selection-28.png" if write else None)
    if plot:
        from xpert.demo.plots import draw_reliability

        draw_reliability(record["reliability"], plot, title="Confidence among 28 candidates")
    _finish(output, record, write)


@app.command("starter-selection")
def starter_selection(write: WriteOption = None, json_: JsonOption = False) -> None:
    """Accuracy on the starter pLLMs' real answers, StyleBank texts as personal texts."""
    from xpert.bench.starter import run_starter_selection

    output = Output(as_json=json_)
    _finish(output, run_starter_selection(_starter(output)), write)


@app.command()
def users(
    data: Annotated[Path | None, typer.Option(help='Lines {"user","text","prompt"?}; default: the example users.')] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of 20 texts a user.")] = 100,
    write: WriteOption = None,
    json_: JsonOption = False,
) -> None:
    """Choose for every user of a file among the starter pLLMs."""
    from xpert.bench.starter import run_users

    output = Output(as_json=json_)
    record = run_users(data, _starter(output), draws=draws)
    found = [
        (name, row["choice"], row["confidence"], row["abstain"], ", ".join(f"{w} {c:.2f}" for w, c, *_ in row["words"][:3]))
        for name, row in record["users"].items()
    ]
    output.say("")
    _finish(output, record, write, table("Choices", ("user", "first", "confidence", "abstain", "words"), found, left=2))


@app.command("selection-speed")
def selection_speed(write: WriteOption = None, json_: JsonOption = False) -> None:
    """Time from 50 texts to a choice on one core, torch and ExecuTorch side by side."""
    from xpert.bench.speed import run_selection_speed

    output = Output(as_json=json_)
    _finish(output, run_selection_speed(_starter(output).catalogue, cache=cache_folder() / "executorch"), write)


@app.command("explain-many")
def explain_many(
    probes: Annotated[int, typer.Option(min=2, help="Probes to ask.")] = 20, write: WriteOption = None, json_: JsonOption = False
) -> None:
    """Probing 12 pLLMs together against one after another."""
    from xpert.bench.speed import run_explain_many
    from xpert.core.data import probes as default_probes

    _finish(Output(as_json=json_), run_explain_many(list(default_probes()[:probes])), write)


@app.command()
def personalize(write: WriteOption = None, json_: JsonOption = False) -> None:
    """Time a training step against eager torch, and whole runs from the choice against from scratch."""
    from xpert.bench.personalize import measure_step, run_personalize, write_random_model
    from xpert.core.runtime import find_runtime
    from xpert.models.names import resolve

    output = Output(as_json=json_)
    runtime, cache = find_runtime(), cache_folder() / "executorch"
    starter = _starter(output)
    with tempfile.TemporaryDirectory() as work:
        record = run_personalize(starter, runtime, cache=cache, work=Path(work))
        folder = write_random_model("smollm2-135m", Path(work) / "smollm2-135m")
        record["step"] = {
            "starter": measure_step(resolve("starter:base"), cache=cache),
            "smollm2-135m": measure_step(folder, cache=Path(work), steps=3, rounds=2),
        }
    _finish(output, record, write)


@app.command()
def catalogue_scale(
    largest: Annotated[int, typer.Option(min=100, help="Largest catalogue, in pLLMs.")] = 1_000_000,
    users: Annotated[int, typer.Option(min=1, help="Users a similarity.")] = 1000,
    engine: Annotated[str, typer.Option(help="What runs the encoder.")] = "executorch",
    write: WriteOption = None,
    json_: JsonOption = False,
) -> None:
    """Catalogues of 100 to a million pLLMs: cutting them into cells, and what a cell costs and loses."""
    from xpert.bench.scale import SIZES, run_catalogue_scale

    output = Output(as_json=json_)
    sizes = [n for n in SIZES if n <= largest]
    with output.progress("catalogues") as report:
        record = run_catalogue_scale(open_encoder(engine), cache=_cache(), sizes=sizes, users=users, progress=report)
    columns = ("cells", "build_s", "peak_mb", "index_bytes", "cell_bytes", "phone_bytes", "query_ms", "whole_ms")
    lines = [(f"{int(n):,}", *(row[name] for name in columns)) for n, row in record["sizes"].items()]
    kept = ("right_style_whole", "right_style_cell", "closeness_whole", "closeness_cell", "same_first", "as_good")
    losses = [(f"{int(n):,}", *(row["mean"][name] for name in kept)) for n, row in record["sizes"].items()]
    views = (table("Cost", ("pLLMs", *columns), lines), table("Against the whole", ("pLLMs", *kept), losses))
    _finish(output, record, write, *views)


@app.command("all")
def all_(
    write: Annotated[Path | None, typer.Option("--write", help="Folder to write the records to.")] = None,
    json_: JsonOption = False,
) -> None:
    """Run every benchmark; the one on the authors' data needs XPERT_DATA, the folder that holds it."""
    own: list[Callable[..., None]] = [
        selection_28,
        starter_selection,
        users,
        selection_speed,
        explain_many,
        catalogue_scale,
        personalize,
    ]
    # As JSON one document is printed at the end; what the single benchmarks print goes where progress goes.
    tables = redirect_stdout(sys.stderr) if json_ else nullcontext()
    with tempfile.TemporaryDirectory() as folder:
        kept = write or Path(folder)
        where = os.environ.get("XPERT_DATA")
        with tables:
            if where and (Path(where) / AUTHORS).exists():
                selection(data=Path(where) / AUTHORS, write=kept)
            else:
                Output(as_json=json_).warn(f"selection is left out: XPERT_DATA names no folder with {AUTHORS}.")
            for command in own:
                command(write=kept)
        if json_:
            Output(as_json=True).show(_records(kept))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of records.")] = Path("tests/benchmarks"),
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/figures.md.")] = False,
    json_: JsonOption = False,
) -> None:
    """Print every recorded figure beside its aim."""
    records = _records(folder)
    if not records:
        raise InputError(f"'{folder}' holds no records. Make some: xpert bench all --write {folder}")
    if markdown:
        typer.echo(page(records), nl=False)
        return
    found = [(record["benchmark"], *row) for record in records for row in rows(record)]
    columns = ("benchmark", "figure", "found", "aim", "verdict", "paper")
    data = [dict(zip(columns, row, strict=True)) for row in found]
    Output(as_json=json_).show(data, table("Figures and aims", columns, found, left=2))


def _starter(output: Output) -> Any:
    from xpert.bench.starter import explain_starter
    from xpert.models.base import load_base

    with output.progress("explaining the starter pLLMs") as report:
        return explain_starter(
            load_base("starter:base"), open_encoder("executorch"), cache=cache_folder() / "answers", progress=report
        )


def _records(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(read_bytes(path))
        except ValueError as error:
            raise FileFormatError(f"'{path}' is not JSON: {error}. Make it again with --write {folder}.") from error
        if isinstance(record, dict) and "benchmark" in record:
            found.append(record)
    return found


def _cache() -> Path:
    return cache_folder() / "vectors"


def _finish(output: Output, record: Mapping[str, Any], write: Path | None, *views: Any) -> None:
    if write:
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_atomic(write / f"{record['benchmark']}.json", text.encode())
    aims = table(str(record["benchmark"]), ("figure", "found", "aim", "verdict", "paper"), rows(record))
    output.show(record, *views, *_methods(record), aims)


def _methods(record: Mapping[str, Any]) -> list[Any]:
    """Lay out methods side by side, for benchmarks that compare some."""
    methods = record.get("methods")
    if not isinstance(methods, Mapping):
        return []
    groups = next(iter(methods.values()))
    columns = [(group, key) for group, row in groups.items() for key in row]
    lines = [(f"{group} {key}", *(row[group][key] for row in methods.values())) for group, key in columns]
    return [table("Accuracy", ("setting", *methods), lines)]
