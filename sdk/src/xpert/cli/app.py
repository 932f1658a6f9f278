"""The command `xpert`: gathers the groups, and turns errors into one message and an exit status."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import typer

from xpert.cli import bench, catalogue, demo, explain, merge, personalize, select_pllm, server, space
from xpert.cli.extending import add_found
from xpert.cli.output import fail, note
from xpert.core.errors import StorageError, XpertError

HELP = """Explainable personalized tuning: choose the nearest personal LLM by coefficients, fine-tune that one.

Exit status: 0 done, 2 wrong usage, 3 bad input, 4 bad or unsafe file, 5 parts that do not belong together, 6 not found,
7 an optional part is not installed, 8 disk or server, 9 training, 10 another writer was first, 11 no access, 12 too large,
13 server away or busy, 14 a signature is missing or wrong, 130 interrupted.
An abstention is an answer, not an error."""

INTERRUPTED = 130

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(space.app, name="space", help="Style spaces: the words that explanations are written in.")
app.command("explain")(explain.explain)
app.add_typer(catalogue.app, name="catalogue", help="Catalogues: the explained pLLMs of one base.")
app.command("select")(select_pllm.select)
app.command("merge")(merge.merge)
app.command("personalize")(personalize.personalize)
app.add_typer(server.app, name="server", help="A server: log in, look at it, have it explain and merge.")
for command in (server.push, server.pull, server.ls, server.jobs, server.job):
    app.command(command.__name__)(command)
app.add_typer(bench.app, name="bench", help="Benchmarks: each prints its figures beside the aims.")
app.command("demo")(demo.demo)
add_found(app)


def main() -> None:
    """Run the command line."""
    # Progress bars and advice of the libraries below would mix with our own output.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger("stamina").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except XpertError as error:
        sys.exit(fail(error))
    except OSError as error:
        place = f" '{error.filename}'" if error.filename else ""
        sys.exit(
            fail(StorageError(f"Cannot use{place}: {error.strerror or error}. Check the path, its rights and the free space."))
        )
    except Exception as error:  # the last net: whatever was not foreseen is one line too, and a report if asked for
        if os.environ.get("XPERT_TRACEBACK"):
            raise
        kind = type(error).__name__
        sys.exit(
            fail(XpertError(f"Unexpected: {kind}: {error}. This is a defect; set XPERT_TRACEBACK=1 to see where, and report it."))
        )
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            note("Interrupted; nothing half-written stays. Probing and fine-tuning go on where they were, given the same again.")
        raise
