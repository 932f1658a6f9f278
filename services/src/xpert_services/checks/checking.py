"""All checks of a store, once or twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from xpert_services.checks import contents, meaning
from xpert_services.checks.problems import Problem
from xpert_services.services import Services
from xpert_services.store import Store


@dataclass(frozen=True)
class Report:
    """What was read, and what is wrong with it.

    Attributes
    ----------
    problems
        In the order of their kinds.
    counts
        How many records, jobs, artifacts and bytes were read. Not wrong: uploads that are under way or were interrupted
        (``unfinished``, ``orphans``), which the collection of garbage clears, and jobs that are open.
    """

    problems: tuple[Problem, ...]
    counts: dict[str, int]


def check(store: Store) -> Report:
    """Read everything in a store; while others write, what they are about to finish may look wrong: see `check_twice`."""
    services, problems = Services.over(store), list[Problem]()
    records = contents.read_records(store, problems)
    jobs = meaning.read_jobs(records, problems)
    # After the records: what they refer to was there when they were written.
    found = contents.read_artifacts(store, problems)
    problems += [
        *contents.check_references(records, found),
        *meaning.check_leases(jobs, store.objects.now()),
        *meaning.check_jobs(records, jobs),
        *meaning.check_pllms(services, records),
        *meaning.check_catalogues(services, records),
        *meaning.check_spaces(services, records),
    ]
    counts = {
        "records": sum(map(len, records.values())),
        "jobs": len(jobs),
        "open": meaning.count_open(jobs),
        "artifacts": len(found.artifacts),
        "bytes": found.n_bytes,
        "unfinished": found.n_unfinished,
        "orphans": found.n_orphans,
    }
    return Report(tuple(sorted(problems)), counts)


def check_twice(store: Store, *, pause_s: float, wait: Callable[[float], None] = time.sleep) -> Report:
    """Read everything; where something is wrong, again after ``pause_s``: what a server was just writing is right by then."""
    first = check(store)
    if not first.problems:
        return first
    wait(pause_s)
    second = check(store)
    known = {(problem.kind, problem.where) for problem in first.problems}
    return Report(tuple(each for each in second.problems if (each.kind, each.where) in known), second.counts)
