"""What other processes do in the tests of jobs: they can import this module, but no test's own."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from api_cases import ShiftedFolder

from xpert_services.jobs import Jobs, Lease, Worker
from xpert_services.store import Store


def work_and_wait(root: Path, here: Connection) -> None:
    """Take a job in a process of its own, tell so, and end the job when told to."""

    def handle(leases: Sequence[Lease]) -> None:
        here.send(leases[0].id)
        here.recv()
        leases[0].succeed({"by": "the first"})

    Worker(Jobs(Store(ShiftedFolder(root))), {"explain": handle}, lease_s=3600).step()
    here.send("over")


def take_all(root: Path) -> list[str]:
    jobs = Jobs(Store(ShiftedFolder(root)))
    found: list[str] = []
    while any(job.state == "queued" for job in jobs.page(after=None, limit=100).items):
        found += [lease.id for lease in jobs.take(kinds=["explain"], lease_s=30.0)]
    return found
