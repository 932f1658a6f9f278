"""What the commands that ask a server share: its address, the client, warnings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from xpert.cli.output import Output, table
from xpert.core.errors import InputError

if TYPE_CHECKING:
    from xpert.client import Client
    from xpert.wire import Job, Pllm

ServerOption = Annotated[
    str | None, typer.Option("--server", "-s", help="Server's address; without, XPERT_SERVER or the one you logged in to.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Ask nobody; take it from the cache.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")]
RemoteBaseOption = Annotated[str, typer.Option("--base", "-b", help="The base model's name on the server.")]

JOB_COLUMNS = ("job", "kind", "of", "state", "steps", "error")


def find_server(given: str | None) -> str:
    """Return the server's address.

    Raises
    ------
    InputError
        There is none.
    """
    from xpert.client.link import saved_server

    found = given or os.environ.get("XPERT_SERVER") or saved_server()
    if not found:
        raise InputError("Which server? Give --server https://HOST, set XPERT_SERVER, or log in: xpert server login https://HOST")
    return found


@contextmanager
def open_client(server: str | None, output: Output, *, offline: bool = False, token: str | None = None) -> Iterator[Client]:
    """Open a client for the block; its warnings are shown as the command's."""
    from xpert.client import Client, OfflineWarning, PlainHttpWarning

    kinds = (OfflineWarning, PlainHttpWarning)
    with warnings.catch_warnings(record=True) as caught:
        for kind in kinds:
            warnings.simplefilter("always", kind)
        try:
            with Client(find_server(server), offline=offline, token=token) as client:
                yield client
        finally:
            for warning in caught:
                if issubclass(warning.category, kinds):
                    output.warn(str(warning.message))


def pllm_row(pllm: Pllm) -> tuple[object, ...]:
    """Lay out a pLLM as a row of a table: name, words, size, state."""
    words = ", ".join(f"{w.word} {w.coefficient:.2f}" for w in pllm.explanation.words[:3]) if pllm.explanation else ""
    state = f"refused: {pllm.quarantined}" if pllm.quarantined else "" if pllm.explanation else "not explained yet"
    return pllm.base, pllm.name, words or state, f"{pllm.adapter_bytes / 1024:,.0f} KiB"


def show_job(client: Client, output: Output, id_: str, *, wait: bool) -> None:
    """Show a job, after its end where ``wait`` says so."""
    if wait:
        with output.progress("job") as report:
            client.wait(id_, progress=report)
    found = client.job(id_)
    output.show(found.model_dump(mode="json"), table("Job", JOB_COLUMNS, [job_row(found)], left=4))


def job_row(job: Job) -> tuple[object, ...]:
    """Lay out a job as a row of a table."""
    return job.id[:16], job.kind, job.subject, job.state, f"{job.done}/{job.total}", job.error or ""
