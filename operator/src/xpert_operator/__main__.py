"""`xpert-operator`: keeps an XPerT server as the cluster's resources say, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from xpert.core.errors import XpertError
from xpert_operator.leading import LostError
from xpert_operator.logs import configure
from xpert_operator.running import run
from xpert_operator.settings import parse

LOST = 14


async def _run_until_told(arguments: list[str] | None) -> None:
    task = asyncio.create_task(run(parse(arguments)))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    configure()
    try:
        asyncio.run(_run_until_told(arguments))
    except asyncio.CancelledError:
        return 0
    except LostError as error:
        sys.stderr.write(f"{error}\n")
        return LOST
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
