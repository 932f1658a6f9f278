"""`xpert server` and the commands that ask one: push, pull, ls, jobs, job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xpert.cli import access, server_space
from xpert.cli.merge import parse_weighted
from xpert.cli.output import JsonOption, Output, table
from xpert.cli.parts import short_name
from xpert.cli.remote import (
    JOB_COLUMNS,
    OfflineOption,
    RemoteBaseOption,
    ServerOption,
    WaitOption,
    job_row,
    open_client,
    pllm_row,
    show_job,
)
from xpert.core.errors import InputError

app = typer.Typer(no_args_is_help=True)
app.add_typer(access.app, name="token", help="Tokens: who may ask the server for what.")
app.add_typer(server_space.app, name="space", help="The style spaces that the server explains pLLMs in.")
app.command()(access.audit)


@app.command()
def login(
    server: Annotated[str, typer.Argument(help="The server's address, https://HOST.")],
    token_file: Annotated[Path | None, typer.Option(help="File with the token; without, you are asked for it.")] = None,
    json_: JsonOption = False,
) -> None:
    """Keep a token for a server in ~/.config/xpert, readable by you alone."""
    from xpert.client.link import read_token, save_token

    output = Output(as_json=json_)
    if token_file:
        token = read_token(token_file)
    elif sys.stdin.isatty():
        token = str(typer.prompt("Token", hide_input=True)).strip()
    else:
        token = sys.stdin.readline().strip()
    with open_client(server, output, token=token) as client:
        bases = [base.name for base in client.bases()]  # the token is tried before it is kept
        path = save_token(token, client.server)
        output.show({"server": client.server, "token_file": str(path), "bases": bases}, f"Logged in to {client.server}; {path}")


@app.command()
def status(server: ServerOption = None, json_: JsonOption = False) -> None:
    """Show what the server is, its bases and how many pLLMs are published."""
    from xpert.core.errors import NotFoundError

    output = Output(as_json=json_)
    with open_client(server, output) as client:
        version = client.version()
        rows = []
        for base in client.bases():
            try:
                n = client.catalogue_info(base.name).n_pllms
            except NotFoundError:
                n = 0
            rows.append((base.name, base.source, base.digest[:12], n))
        data = {"server": client.server, "version": version.version, "api": version.api, "bases": [row[0] for row in rows]}
        title = f"{client.server}, version {version.version}"
        output.show(data, table(title, ("base", "source", "digest", "in the catalogue"), rows, left=3))


@app.command()
def explain(
    base: RemoteBaseOption,
    pllms: Annotated[list[str] | None, typer.Argument(help="Names; without, all of the base.")] = None,
    server: ServerOption = None,
    wait: WaitOption = False,
    json_: JsonOption = False,
) -> None:
    """Have the server explain pLLMs anew."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        show_job(client, output, client.explain(base, *(pllms or [])).id, wait=wait)


@app.command()
def merge(
    name: Annotated[str, typer.Argument(help="Name of the new pLLM.")],
    sources: Annotated[list[str], typer.Argument(help="PLLM=WEIGHT ….")],
    base: RemoteBaseOption,
    rank: Annotated[int | None, typer.Option(help="Truncate to this rank.")] = None,
    server: ServerOption = None,
    wait: WaitOption = False,
    json_: JsonOption = False,
) -> None:
    """Have the server merge pLLMs into a new one."""
    output = Output(as_json=json_)
    weighted = dict(parse_weighted(item) for item in sources)
    with open_client(server, output) as client:
        show_job(client, output, client.merge(base, name, weighted, rank=rank).id, wait=wait)


def push(
    adapter: Annotated[str, typer.Argument(help="Adapter: a folder, starter:NAME or a hub name.")],
    base: RemoteBaseOption,
    server: ServerOption = None,
    name: Annotated[str | None, typer.Option(help="Name on the server; without, the adapter's.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is explained.")] = False,
    sign: Annotated[Path | None, typer.Option("--sign", metavar="KEY", help="Secret key of minisign's to sign it with.")] = None,
    json_: JsonOption = False,
) -> None:
    """Publish an adapter on a server, which explains it."""
    from xpert.core.signing import SecretKey
    from xpert.models.names import resolve

    output = Output(as_json=json_)
    key = SecretKey.read(sign) if sign else None
    folder = resolve(adapter)
    with open_client(server, output) as client:
        with output.progress("push") as report:
            pllm = client.push(folder, base, name or short_name(adapter).lower(), progress=report, key=key)
        if wait and pllm.job:
            with output.progress("explain") as report:
                client.wait(pllm.job, progress=report)
            pllm = client.pllm(pllm.base, pllm.name)
        output.show(pllm.model_dump(mode="json"), table("Published", ("base", "pLLM", "words", "size"), [pllm_row(pllm)], left=3))
        if pllm.job and not wait:
            output.say(f"It is being explained: xpert job {pllm.job} --wait")


def pull(
    name: Annotated[str, typer.Argument(help="The pLLM: its name, or its id in a compact catalogue.")],
    base: RemoteBaseOption,
    server: ServerOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; without, NAME.")] = None,
    offline: OfflineOption = False,
    trust: Annotated[
        str | None, typer.Option("--trust", metavar="PUBLIC_KEY", help="Refuse what is not signed by this key (file or base64).")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Fetch an adapter from a server, checked; an interrupted download goes on where it stopped."""
    from xpert.core.signing import read_public_key

    output = Output(as_json=json_)
    public_key = read_public_key(trust) if trust else None
    with open_client(server, output, offline=offline) as client, output.progress("pull") as report:
        folder = client.pull(base, name, out or Path(name), progress=report, trust=public_key)
    output.show({"path": str(folder)}, f"Wrote {folder}")


def ls(
    base: Annotated[str | None, typer.Option("--base", "-b", help="Of this base alone.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="WORD:LEAST, such as poetic:0.5; may be repeated.")] = None,
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """List the pLLMs of a server with their strongest words."""
    output = Output(as_json=json_)
    words = dict(_filter(item) for item in word or [])
    with open_client(server, output) as client:
        found = list(client.pllms(base, words=words))
    rows = [pllm_row(pllm) for pllm in found]
    output.show([pllm.model_dump(mode="json") for pllm in found], table("pLLMs", ("base", "pLLM", "words", "size"), rows, left=3))


def jobs(
    base: Annotated[str | None, typer.Option("--base", "-b", help="Of this base alone.")] = None,
    server: ServerOption = None,
    json_: JsonOption = False,
) -> None:
    """List the jobs of a server, those asked for last first."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        found = list(client.jobs(base=base))
    output.show(
        [job.model_dump(mode="json") for job in found], table("Jobs", JOB_COLUMNS, [job_row(job) for job in found], left=4)
    )


def job(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The job.")],
    server: ServerOption = None,
    wait: WaitOption = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel it.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show a job, wait for it or cancel it."""
    output = Output(as_json=json_)
    with open_client(server, output) as client:
        if cancel:
            client.cancel(id_)
        show_job(client, output, id_, wait=wait)


def _filter(item: str) -> tuple[str, float]:
    word, mark, least = item.rpartition(":")
    try:
        return (word, float(least)) if mark else (item, 0.0)
    except ValueError as error:
        raise InputError(f"'{item}' is no WORD:LEAST. Write for example poetic:0.5.") from error
