"""The command `kubectl-xpert`, which kubectl runs as `kubectl xpert`."""

from __future__ import annotations

import os
import sys

import typer

from xpert.cli.output import fail
from xpert.core.errors import XpertError
from xpert_operator.plugin import installing, looking

HELP = """Personal LLMs in a Kubernetes cluster: what there is, why one is not ready, how two differ; install, uninstall.

Exit status as that of xpert: 3 no cluster or bad input, 5 not comparable, 6 not found, 10 conflict, 11 no rights, 13 API server
away."""

app = typer.Typer(name="kubectl xpert", help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
for command in (looking.status, looking.why, looking.diff, installing.install, installing.uninstall):
    app.command(command.__name__)(command)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="kubectl xpert")
    except XpertError as error:
        sys.exit(fail(error))
    except Exception as error:  # the last net, as that of xpert
        if os.environ.get("XPERT_TRACEBACK"):
            raise
        sys.exit(
            fail(
                XpertError(f"Unexpected: {type(error).__name__}: {error}. This is a defect; set XPERT_TRACEBACK=1 and report it.")
            )
        )


if __name__ == "__main__":
    main()
