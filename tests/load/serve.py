"""`python tests/load/serve.py` (``./taskw bench:serve``): sites under load, as ratios to plain uvicorn with the same bytes.

Ratios are taken in one run, in turn: a stretch of plain uvicorn, one of the site, and again; the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plain
import psutil
import sites
from sites import BASE, Filled
from traffic import GOOD, MIX, at, targets_of
from vegeta import Load, Target, attack
from visitors import variant

from xpert.bench.record import provenance
from xpert.client import Client
from xpert.core.data import probes

N_PLLMS, CONNECTIONS, WARM_S = 1000, 16, 1.0
N_EXPLAINED, N_PROBES = (1, 4, 16), 20
HOUR = 72_000
"""Requests that stand for an hour: as many as one token may send in one (1200 a minute)."""


@dataclass(frozen=True)
class Form:
    """One way to run a site."""

    name: str
    replicas: int = 0
    haproxy: bool = False

    @contextmanager
    def running(self, filled: Filled, work: Path) -> Iterator[str]:
        """Run it; gives its address."""
        if not self.replicas:
            with sites.embedded(filled, work) as address:
                yield address
            return
        gateway = {"least": self.replicas, "most": self.replicas, "cpus": 0.2}
        settings = {"gateway": gateway, "explainer": {"cpus": 0.2}, "merger": {"cpus": 0.2}}
        with sites.on_ray(str(filled.folder), work, settings=settings, haproxy=self.haproxy) as addresses:
            yield addresses["api"]


FORMS = (
    Form("embedded"),
    Form("ray 1", 1),
    Form("ray 2", 2),
    Form("ray 1 haproxy", 1, haproxy=True),
    Form("ray 2 haproxy", 2, haproxy=True),
)


def measure(address: str, filled: Filled, work: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Put a site under each kind of load, in turn with plain uvicorn; returns the figures of each kind."""
    loads = targets_of(address, filled)
    plain.record([target for targets in loads.values() for target in targets], work / "recorded.json")
    with sites.plain(work / "recorded.json") as other:
        pairs = {kind: (targets, [at(target, address, other) for target in targets]) for kind, targets in loads.items()}
        for targets, same in pairs.values():
            _stretch(targets, WARM_S)
            _stretch(same, WARM_S)
        found: dict[str, list[tuple[Load, Load]]] = {kind: [] for kind in pairs}
        for _ in range(rounds):
            for kind, (targets, same) in pairs.items():
                found[kind].append((_stretch(targets, seconds), _stretch(same, seconds)))
    return {kind: _compare(each) for kind, each in found.items()}


def _stretch(targets: Sequence[Target], seconds: float) -> Load:
    return attack(targets, seconds=seconds, connections=CONNECTIONS)


def _compare(pairs: Sequence[tuple[Load, Load]]) -> dict[str, Any]:
    def median(read: Callable[[Load, Load], float], digits: int = 3) -> float:
        return round(statistics.median(read(site, other) for site, other in pairs), digits)

    return {
        "throughput_ratio": median(lambda site, other: site.per_second / other.per_second),
        "p50_ratio": median(lambda site, other: site.p50_ms / other.p50_ms, 1),
        "p99_ratio": median(lambda site, other: site.p99_ms / other.p99_ms, 1),
        "per_second": median(lambda site, _: site.per_second, 0),
        "p50_ms": median(lambda site, _: site.p50_ms, 2),
        "p99_ms": median(lambda site, _: site.p99_ms, 2),
        "plain_per_second": median(lambda _, other: other.per_second, 0),
        "requests": sum(site.requests for site, _ in pairs),
        "failed": sum(site.failed(*GOOD) + other.failed(*GOOD) for site, other in pairs),
    }


def remember(address: str, filled: Filled, process: psutil.Process, *, requests: int) -> dict[str, Any]:
    """Send an hour's requests of the mixed load to a server; returns what its process holds before and after."""
    targets = targets_of(address, filled)["mixed"]
    done = attack(targets, seconds=20.0, connections=CONNECTIONS)
    n, before = 0, _resident_mib(process)
    half = before
    while n < requests:
        # Anew each time: signed addresses run out.
        load = attack(targets_of(address, filled)["mixed"], seconds=30.0, connections=CONNECTIONS)
        n += load.requests
        if n < requests / 2:
            half = _resident_mib(process)
    after = _resident_mib(process)
    return {
        "requests": n,
        "warm_up_requests": done.requests,
        "rss_before_mib": round(before, 1),
        "rss_half_mib": round(half, 1),
        "rss_after_mib": round(after, 1),
        "growth": round(after / before - 1, 3),
    }


def _resident_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def explain(work: Path) -> dict[str, Any]:
    """Publish 1, 4 and 16 pLLMs that nobody has seen to a site on Ray; returns pLLMs a minute, and each against one alone."""
    work.mkdir()
    settings = {"probes": probes()[:N_PROBES], "explainer": {"cpus": 2}, "gateway": {"cpus": 0.2}, "merger": {"cpus": 0.2}}
    chance, rates = random.Random(1), {}
    with (
        sites.changed_environment({"XPERT_CACHE": str(work / "cache"), "XPERT_ADMIN_TOKEN": sites.ADMIN}),
        sites.on_ray(str(work / "store"), work / "site", settings=settings) as addresses,
        Client(addresses["api"], token=sites.ADMIN, cache=work / "client") as client,
    ):
        client.add_base(BASE, "starter:base")
        _publish(client, work, "warm", 1, chance)  # loads the models and answers for the base
        for n in N_EXPLAINED:
            rates[str(n)] = round(60 * n / _publish(client, work, f"of-{n}", n, chance), 1)
    return {"probes": N_PROBES, "pllms_a_minute": rates, "speedup": {n: round(rate / rates["1"], 2) for n, rate in rates.items()}}


def _publish(client: Client, work: Path, name: str, n: int, chance: random.Random) -> float:
    folders = [variant(work / f"{name}-{number}", chance) for number in range(n)]
    uploaded = [client.upload_adapter(folder) for folder in folders]
    # The first is taken up while the others are registered, which then are done together: as on any site.
    begun = time.monotonic()
    for folder, files in zip(folders, uploaded, strict=True):
        client.register(BASE, folder.name, files)
    for folder in folders:
        client.wait(str(client.pllm(BASE, folder.name).job))
    return time.monotonic() - begun


def run(work: Path, forms: Sequence[Form], *, rounds: int, seconds: float, hour: int) -> dict[str, Any]:
    """Measure everything."""
    filled = sites.fill(work / "store", n_pllms=N_PLLMS, seed=1)
    record: dict[str, Any] = {
        "benchmark": "serve",
        **provenance(seed=1),
        "pllms": N_PLLMS,
        "connections": CONNECTIONS,
        "mix": MIX,
        "forms": {},
    }
    for number, form in enumerate(forms):
        place = work / str(number)
        with form.running(filled, place) as address:
            record["forms"][form.name] = measure(address, filled, place, rounds=rounds, seconds=seconds)
            sys.stderr.write(f"{form.name}: {json.dumps(record['forms'][form.name])}\n")
            if hour and form.name in ("embedded", "ray 1"):
                process = _server_process(address, place)
                record.setdefault("memory", {})[form.name] = remember(address, filled, process, requests=hour)
                sys.stderr.write(f"{json.dumps(record['memory'])}\n")
    record["explaining"] = explain(work / "explaining")
    record["failed"] = sum(kind["failed"] for form in record["forms"].values() for kind in form.values())
    return record


def _server_process(address: str, work: Path) -> psutil.Process:
    """Find the process that answers: the embedded server, or the gateway's replica."""
    found = [each for each in psutil.Process().children(recursive=True) if "xpert_services --store" in " ".join(each.cmdline())]
    if (work / "process.json").exists():
        site = psutil.Process(json.loads((work / "process.json").read_text())["pid"])
        found = [each for each in site.children(recursive=True) if "ServeReplica:xpert:gateway" in " ".join(each.cmdline())]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes could be the server at {address}, expected one")
    return found[0]


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stretch")
    parser.add_argument("--hour", type=int, default=HOUR, help="requests after which memory is looked at; 0: leave it out")
    parser.add_argument("--forms", nargs="+", choices=[form.name for form in FORMS], default=[form.name for form in FORMS])
    parser.add_argument("--write", type=Path, help="folder to write the record to")
    given = parser.parse_args()
    forms = [form for form in FORMS if form.name in given.forms]
    with tempfile.TemporaryDirectory(prefix="xpert-serve-") as work:
        record = run(Path(work), forms, rounds=given.rounds, seconds=given.seconds, hour=given.hour)
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if given.write:
        (given.write / "serve.json").write_text(text)
    return 1 if record["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
