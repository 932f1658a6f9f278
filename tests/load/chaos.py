"""`python tests/load/chaos.py` (``./taskw chaos``): a site on Ray and S3 is used, and its parts are killed meanwhile.

Exit status 1: a request failed, a job was lost or done twice, or the store is not consistent.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import minio_server
from faults import FAULTS, Shaken
from minio import Minio
from serving_cases import Site
from sites import BASE, CREDENTIALS, changed_environment, on_ray
from visitors import STARTERS, Seen, check_jobs, visiting

import xpert_starter
from xpert.bench.record import provenance
from xpert.client import Client
from xpert_services.checks import Problem, check_twice
from xpert_services.store import open_store

BUCKET = "chaos"
SETTINGS: dict[str, Any] = {
    "lease_s": 5.0,
    "probes": [f"What do you know about {what}?" for what in ("tea", "rivers", "old towns", "small birds")],
    "max_new_tokens": 24,
    "gateway": {"least": 2, "most": 2, "cpus": 0.2},
    "explainer": {"least": 2, "most": 2, "cpus": 0.5},
    "merger": {"least": 2, "most": 2, "cpus": 0.2},
}
SETTLE_S, QUIET_S = 20.0, 5.0


@contextmanager
def shaken_site(work: Path, *, seed: int) -> Iterator[tuple[Shaken, str]]:
    """Run a site over a bucket, with the starter pLLMs in it; gives it and its store's address."""
    (work / "minio").mkdir(parents=True)
    minio = minio_server.Minio(work / "minio")
    minio.start()
    try:
        server = minio.server
        Minio(f"127.0.0.1:{server.port}", server.user, server.password, secure=False, region=minio_server.REGION).make_bucket(
            BUCKET
        )
        url = f"s3://{BUCKET}/site?endpoint={server.url}"
        secrets = dict(zip(CREDENTIALS, (server.user, server.password), strict=True))
        with (
            # Ray would leave out lines of a log that look alike, and they are counted.
            changed_environment({**secrets, "XPERT_CACHE": str(work / "cache"), "RAY_DEDUP_LOGS": "0"}),
            on_ray(url, work / "site", settings=SETTINGS) as addresses,
        ):
            site = Site(work / "site", addresses)
            with Client(addresses["api"], token=site.token, cache=work / "first") as client:
                client.add_base(BASE, "starter:base")
                for job in [client.push(xpert_starter.path_of(name), BASE, name).job for name in STARTERS]:
                    client.wait(str(job))
            yield Shaken(site, minio, {"store": url, **SETTINGS}, random.Random(seed)), url
            site.client.close()
    finally:
        minio.stop()


def shake(shaken: Shaken, faults: Sequence[str], *, pause_s: float) -> dict[str, float]:
    """Do one thing after the other to it; returns how long each took to be over."""
    took = {}
    for number, name in enumerate(faults):
        threading.Event().wait(pause_s)
        begun = time.monotonic()
        FAULTS[name](shaken)
        took[f"{number + 1} {name}"] = round(time.monotonic() - begun, 1)
        sys.stderr.write(f"{name}: over after {took[f'{number + 1} {name}']} s\n")
    threading.Event().wait(pause_s)
    return took


def run(work: Path, faults: Sequence[str], *, seed: int, pause_s: float) -> tuple[dict[str, Any], Seen, list[Problem]]:
    """Shake a site while it is used; returns the record, what the visitors saw, and what is wrong afterwards."""
    with shaken_site(work, seed=seed) as (shaken, url):
        token, server = shaken.site.token, shaken.site.addresses["api"]
        begun = time.monotonic()
        with visiting(server, token, work / "visitors", readers=3, publishers=2, seed=seed) as seen:
            took = shake(shaken, faults, pause_s=pause_s)
        seconds = time.monotonic() - begun
        with Client(server, token=token, cache=work / "last") as client:
            threading.Event().wait(QUIET_S)
            problems = check_jobs(client, seen, list(shaken.site.logged()))
        report = check_twice(open_store(url), pause_s=SETTLE_S)
        problems += report.problems
    return _record(seen, problems, took, report.counts, seconds=seconds, seed=seed), seen, problems


def _record(
    seen: Seen, problems: Sequence[Problem], took: dict[str, float], counts: dict[str, int], *, seconds: float, seed: int
) -> dict[str, Any]:
    kinds = [problem.kind for problem in problems]
    return {
        "benchmark": "chaos",
        **provenance(seed=seed),
        "seconds": round(seconds),
        "faults": took,
        "requests": {"calls": sum(seen.calls.values()), "by_call": dict(seen.calls)},
        "retries": {"all": seen.retries, "most_of_one_call": seen.most_retries},
        "longest_call_s": round(seen.longest_s, 1),
        "failed_requests": len(seen.failures),
        "jobs": {
            "asked": len(set(seen.jobs)),
            "lost": sum(kind in ("job-lost", "pllm-lost") for kind in kinds),
            "doubled": kinds.count("job-doubled"),
        },
        "store": {**counts, "problems": sum(kind not in ("job-lost", "pllm-lost", "job-doubled") for kind in kinds)},
    }


def main() -> int:
    """Shake, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often each fault happens")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between the end of a fault and the next one")
    parser.add_argument("--write", type=Path, help="folder to write the record to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xpert-chaos-") as work:
        record, seen, problems = run(Path(work), given.faults * given.rounds, seed=given.seed, pause_s=given.pause)
    for failure in seen.failures:
        sys.stderr.write(f"{failure}\n")
    for problem in problems:
        sys.stderr.write(f"{json.dumps(asdict(problem))}\n")
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if given.write:
        (given.write / "chaos.json").write_text(text)
    return 1 if seen.failures or problems else 0


if __name__ == "__main__":
    sys.exit(main())
