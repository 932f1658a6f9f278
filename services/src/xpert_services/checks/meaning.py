"""The level above: what records say of each other, jobs, pLLMs and catalogues."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from xpert.core.errors import FileFormatError, NotFoundError
from xpert.core.explanation import Explanation
from xpert.core.space import StyleSpace
from xpert_services.catalogue.catalogues import COLLECTION as CATALOGUES
from xpert_services.checks.contents import Records
from xpert_services.checks.problems import Problem
from xpert_services.jobs.state import COLLECTION as JOBS
from xpert_services.jobs.state import ENDED, JobRecord
from xpert_services.registry.bases import COLLECTION as BASES
from xpert_services.registry.pllms import ENTRY, FILE
from xpert_services.registry.spaces import COLLECTION as SPACES
from xpert_services.services import Services
from xpert_services.store import Record

PLLMS = "pllms."
LATE_S = 60.0
"""So long after its end a lease should have been taken up by another worker."""


def read_jobs(records: Records, problems: list[Problem]) -> dict[str, JobRecord]:
    """Read the jobs."""
    found = {}
    for name, record in records.get(JOBS, {}).items():
        try:
            found[name] = JobRecord.of(record)
        except FileFormatError as error:
            problems.append(Problem("record-unreadable", f"{JOBS}/{name}", str(error)))
    return found


def check_leases(jobs: Mapping[str, JobRecord], now: float) -> Iterator[Problem]:
    """Find jobs whose state and lease do not belong together, and those that nobody took up."""
    for name, job in jobs.items():
        where = f"{JOBS}/{name}"
        if (job.state == "running") != bool(job.lease):
            told = f"It is {job.state} and its lease is '{job.lease}': only one that runs has a lease. Cancel it, ask again."
            yield Problem("lease-orphaned", where, told)
        elif job.state == "running" and job.deadline < now - LATE_S:
            told = f"Its lease ran out {now - job.deadline:.0f} s ago and no worker took it up. Are workers for '{job.kind}' up?"
            yield Problem("lease-orphaned", where, told)


def check_jobs(records: Records, jobs: Mapping[str, JobRecord]) -> Iterator[Problem]:
    """Find jobs that are done without what they should have done, and what two jobs or attempts have done."""
    made = defaultdict(list)
    for base, name, pllm in _pllms(records):
        where = f"{PLLMS}{base}/{name}"
        origin, asked = str(pllm.value["origin"]), str(pllm.value["job"] or "")
        if origin:
            made[origin].append(where)
            if origin not in jobs:
                yield Problem("job-lost", where, f"The merge {origin} that made it is not there. Restore it from a backup.")
        is_known = bool(pllm.value["explanations"] or pllm.value["quarantined"])
        if not is_known and (asked not in jobs or jobs[asked].state == "succeeded"):
            told = f"It is not explained, and its job '{asked}' is {'done' if asked in jobs else 'not there'}. Register it again."
            yield Problem("job-lost", where, told)
    for origin, places in made.items():
        if len(places) > 1:
            told = f"The merge made {len(places)} pLLMs, expected one: {', '.join(sorted(places))}. Remove all but one."
            yield Problem("job-doubled", f"{JOBS}/{origin}", told)
    for name, job in jobs.items():
        if job.state == "succeeded" and job.kind == "explain":
            yield from _unexplained(records, name, job)


def _unexplained(records: Records, name: str, job: JobRecord) -> Iterator[Problem]:
    base, space = str(job.inputs["base"]), str(job.inputs["space"])
    for each, registration in job.inputs["pllms"].items():
        pllm = records.get(f"{PLLMS}{base}", {}).get(each)
        if pllm is None or pllm.value["registration"] != registration or pllm.value["quarantined"]:
            continue  # removed or refused since
        if space not in pllm.value["explanations"]:
            yield Problem("job-lost", f"{JOBS}/{name}", f"It is done, but '{base}/{each}' is not explained. Ask for it again.")


def check_pllms(services: Services, records: Records) -> Iterator[Problem]:
    """Find pLLMs whose record does not say what its entry and its files say."""
    for base, name, pllm in _pllms(records):
        where = f"{PLLMS}{base}/{name}"
        if base not in records.get(BASES, {}):
            yield Problem("base-missing", where, f"There is no base '{base}'. Register it again, or remove the pLLM.")
        files = {role.removeprefix(FILE): digest for role, digest in pllm.artifacts.items() if role.startswith(FILE)}
        if files != pllm.value["files"]:
            yield Problem("pllm-torn", where, "Its files are not those that it keeps. Remove it and register it again.")
        entries = {role.removeprefix(ENTRY): digest for role, digest in pllm.artifacts.items() if role.startswith(ENTRY)}
        if entries.keys() != pllm.value["explanations"].keys():
            yield Problem("pllm-torn", where, "Its explanations are not those that it keeps. Ask for it to be explained again.")
        for digest in entries.values():
            yield from _entry(services, pllm, where, digest)


def _entry(services: Services, pllm: Record, where: str, digest: str) -> Iterator[Problem]:
    try:
        entry = read_entry(services, digest)
    except NotFoundError:
        return  # told as a broken reference
    except FileFormatError as error:
        yield Problem("entry-wrong", where, str(error))
        return
    found = (entry.name, entry.base_digest, entry.adapter_digest)
    if found != (pllm.name, pllm.value["base_digest"], pllm.value["adapter_digest"]):
        yield Problem("entry-wrong", where, f"Its entry {digest} is that of '{found[0]}', or of other files. Explain it again.")


def check_catalogues(services: Services, records: Records) -> Iterator[Problem]:
    """Find catalogues that do not hold what the pLLMs' records say."""
    wanted: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for base, name, pllm in _pllms(records):
        for role, digest in pllm.artifacts.items():
            if role.startswith(ENTRY) and pllm.value["quarantined"] is None and pllm.value.get("published", True):
                wanted[base, role.removeprefix(ENTRY)][name] = digest
    kept = {(str(each.value["base"]), str(each.value["space"])): each for each in records.get(CATALOGUES, {}).values()}
    for key in wanted.keys() | kept.keys():
        where = f"{CATALOGUES}/{key[0]}.{key[1]}"
        entries = wanted.get(key, {})
        catalogue = kept.get(key)
        if catalogue is None or dict(catalogue.artifacts) != entries:
            n_found = len(catalogue.artifacts) if catalogue else 0
            told = (
                f"It has {n_found} entries, not those of the {len(entries)} published pLLMs. A server that starts builds it anew."
            )
            yield Problem("catalogue-behind", where, told)
        elif entries:
            yield from _rows(services, catalogue, where)


def _rows(services: Services, catalogue: Record, where: str) -> Iterator[Problem]:
    rows: Mapping[str, str] = catalogue.value["rows"]
    try:
        right = {
            name: read_entry(services, digest).adapter_digest[: len(rows.get(name, ""))]
            for name, digest in catalogue.artifacts.items()
        }
        shown = services.catalogues.get(catalogue.value["base"], catalogue.value["space"]).info.pllms
    except NotFoundError:
        return  # told as a broken reference
    except FileFormatError as error:
        yield Problem("entry-wrong", where, str(error))
        return
    if rows != right or sorted(shown) != sorted(rows):
        yield Problem("catalogue-wrong", where, "Its rows are not those of its entries. Take a pLLM out of it and put it back.")


def check_spaces(services: Services, records: Records) -> Iterator[Problem]:
    """Find style spaces whose file is another."""
    for name, record in records.get(SPACES, {}).items():
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            try:
                path = services.store.artifacts.download(record.artifacts["space"], Path(folder) / "space.safetensors")
                found = StyleSpace.load(path).digest
            except NotFoundError:
                continue  # told as a broken reference
            except FileFormatError as error:
                found = str(error)
        if found != name:
            yield Problem("space-wrong", f"{SPACES}/{name}", f"Its file is that of {found}. Register the right file again.")


def read_entry(services: Services, digest: str) -> Explanation:
    """Read an entry."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        return Explanation.load(services.store.artifacts.download(digest, Path(folder) / "entry.json"))


def _pllms(records: Records) -> Iterator[tuple[str, str, Record]]:
    for collection, named in records.items():
        if collection.startswith(PLLMS):
            for name, record in named.items():
                yield collection.removeprefix(PLLMS), name, record


def count_open(jobs: Mapping[str, JobRecord]) -> int:
    """Count the jobs that have not ended."""
    return sum(job.state not in ENDED for job in jobs.values())
