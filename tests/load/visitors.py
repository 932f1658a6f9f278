"""Who uses a site while it is shaken: readers and publishers, each with the client and its retries, and what they saw."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import stamina.instrumentation
from safetensors.numpy import load_file, save_file
from sites import BASE

import xpert_starter
from xpert.client import Client, OfflineWarning
from xpert_services.checks import Problem

T = TypeVar("T")
STARTERS = ("concise", "poetic", "sarcastic")
PUSHES_A_MERGE = 3


@dataclass
class Seen:
    """What the visitors saw."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    retries: int = 0
    most_retries: int = 0
    jobs: list[str] = field(default_factory=list)
    pllms: list[str] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    longest_s: float = 0.0


@contextmanager
def visiting(server: str, token: str, folder: Path, *, readers: int, publishers: int, seed: int) -> Iterator[Seen]:
    """Let visitors come while the block runs; afterwards each ends what it has begun."""
    seen, over = Seen(), threading.Event()
    rounds: list[Callable[[_Visitor], None]] = [*[_Visitor.read] * readers, *[_Visitor.publish] * publishers]
    visitors = [_Visitor(server, token, folder / str(n), seen, seed + n, each) for n, each in enumerate(rounds)]
    threads = [threading.Thread(target=each.run, args=(over,)) for each in visitors]
    # To be served from the cache since the server is away is what must not happen here.
    warnings.simplefilter("error", OfflineWarning)
    stamina.instrumentation.set_on_retry_hooks([lambda details: _count(seen, details.retry_num)])
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _count(seen: Seen, number: int) -> None:
    seen.retries += 1
    seen.most_retries = max(seen.most_retries, number)


class _Visitor:
    def __init__(self, server: str, token: str, folder: Path, seen: Seen, seed: int, round_: Callable[[_Visitor], None]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._seen, self._round = folder, seen, round_
        self._chance, self._name, self._n = random.Random(seed), f"v{seed}", 0
        self._client = Client(server, token=token, cache=folder / "cache")

    def run(self, over: threading.Event) -> None:
        """Come again and again."""
        with self._client:
            while not over.is_set():
                self._round(self)
                self._n += 1

    def read(self) -> None:
        """Do what a phone does, and what a page does."""
        client, name = self._client, self._chance.choice(STARTERS)
        self._call("catalogue", lambda: client.catalogue(BASE))
        self._call("pllm", lambda: client.pllm(BASE, name))
        self._call("list", lambda: list(client.pllms(BASE, page=20)))
        out = self._folder / "cache"
        shutil.rmtree(out, ignore_errors=True)
        self._call("pull", lambda: client.pull(BASE, name))

    def publish(self) -> None:
        """Publish a pLLM that was not there before, and wait for it; now and then, merge."""
        client, name = self._client, f"{self._name}-{self._n}"
        with tempfile.TemporaryDirectory() as place:
            adapter = variant(Path(place) / name, self._chance)
            pllm = self._call("push", lambda: client.push(adapter, BASE, name))
        if pllm is None:
            return
        self._seen.pllms.append(name)
        self._seen.jobs.append(str(pllm.job))
        self._call("wait", lambda: client.wait(str(pllm.job)))
        if self._n % PUSHES_A_MERGE == 0:
            self._merge(f"{name}-merged", name)

    def _merge(self, name: str, source: str) -> None:
        client = self._client
        job = self._call("merge", lambda: client.merge(BASE, name, {source: 0.5, self._chance.choice(STARTERS): 0.5}))
        done = job and self._call("wait", lambda: client.wait(job.id))
        if done:
            self._seen.jobs += [done.id, done.result["job"]]
            self._seen.merges.append(name)
            self._call("wait", lambda: client.wait(done.result["job"]))

    def _call(self, what: str, ask: Callable[[], T]) -> T | None:
        begun = time.monotonic()
        try:
            found = ask()
        except Exception:
            self._seen.failures.append(f"{what}: {traceback.format_exc(limit=-3)}")
            return None
        finally:
            self._seen.calls[what] += 1
            if what != "wait":
                self._seen.longest_s = max(self._seen.longest_s, time.monotonic() - begun)
        return found


def variant(folder: Path, chance: random.Random) -> Path:
    """Write an adapter that nobody has seen: a starter's, a little stronger or weaker."""
    shutil.copytree(xpert_starter.path_of(chance.choice(STARTERS)), folder)
    path = folder / "adapter_model.safetensors"
    weights, strength = load_file(path), chance.uniform(0.8, 1.2)
    save_file({name: array * strength if "lora_B" in name else array for name, array in weights.items()}, path)
    return folder


def check_jobs(client: Client, seen: Seen, logged: Sequence[dict[str, object]]) -> list[Problem]:
    """Compare what the visitors asked for with what the site has and what its workers' logs say."""
    problems = []
    ends = Counter(str(line["job"]) for line in logged if line.get("job") and line.get("state") == "succeeded")
    for id_ in dict.fromkeys(seen.jobs):
        job = client.job(id_)
        if job.state != "succeeded":
            problems.append(Problem("job-lost", id_, f"It is {job.state}: {job.error}"))
        if ends[id_] > 1:
            problems.append(Problem("job-doubled", id_, f"It ended {ends[id_]} times"))
    names = [pllm.name for pllm in client.pllms(BASE)]
    expected = {*STARTERS, *seen.pllms, *seen.merges}
    if set(names) != expected or len(names) != len(set(names)):
        problems.append(Problem("pllm-lost", BASE, json.dumps(sorted(expected ^ set(names)))))
    return problems
