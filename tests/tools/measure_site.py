"""What a site needs: ``python tests/tools/measure_site.py`` prints the figures of docs/operating.md, "Size a site", as JSON.

One process that has everything of a worker, over a store in a scratch folder; memory is what it holds at that moment (RSS).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import xpert_starter
from xpert.core.catalogue import Catalogue
from xpert.core.data import probes
from xpert.core.explanation import Explanation
from xpert.core.files import sha256_hex
from xpert.wire import BaseDraft, PllmDraft
from xpert_services.explainer.asking import Asking
from xpert_services.services import Services, Settings
from xpert_services.store import Store, open_store

MIB = 2**20
NAMES = ("concise", "poetic")
ASKING = Asking(probes=probes()[:20])


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@contextmanager
def highest(found: dict[str, int]) -> Iterator[None]:
    """Note the most memory that the block held."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            found["peak"] = max(found.get("peak", 0), resident())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def stored(store: Store) -> int:
    return sum(info.size for info in store.objects.scan(""))


def register(services: Services, name: str) -> None:
    folder = xpert_starter.path_of(name)
    files = {
        path.name: services.store.artifacts.put(path, kind="adapter").digest
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".safetensors")
    }
    pllm, registration, _ = services.pllms.register(PllmDraft(name=name, base="starter", files=files))
    services.explanations.ask_after(pllm, registration)


def work(services: Services, cache: Path) -> dict[str, Any]:
    """Explain one pLLM, with which the base's answers come, then another."""
    from xpert_services.local import make_worker

    worker, found = make_worker(services, cache=cache), {}
    peak: dict[str, int] = {}
    with highest(peak):
        for what, names in (("first", NAMES[:1]), ("next", NAMES[1:])):
            for name in names:
                register(services, name)
            before = stored(services.store)
            while worker.step():
                pass
            found[f"bytes_a_pllm_{what}"] = round((stored(services.store) - before) / len(names))
    return {"pllms": len(NAMES), "probes": len(ASKING.asked), **found, "mib_at_most": peak["peak"] // MIB}


def catalogue_bytes(services: Services, folder: Path) -> dict[str, float]:
    """Return the bytes a pLLM takes in catalogues of the same entry many times over."""
    digest = dict(services.pllms.entries("starter", services.spaces.default().digest))[NAMES[0]]
    entry = Explanation.load(services.store.artifacts.download(digest, folder / "entry.json"))
    sizes = {}
    for n in (100, 1000, 10_000):
        many = [replace(entry, name=f"p{i}", adapter_digest=sha256_hex(str(i).encode())) for i in range(n)]
        Catalogue.of(many).export_compact(folder / f"{n}.xcat.safetensors")
        sizes[str(n)] = round((folder / f"{n}.xcat.safetensors").stat().st_size / n, 1)
    return sizes


def load_large(folder: Path) -> dict[str, int]:
    """Load a base of the shape of SmolLM2-135M."""
    from xpert.models.base import load_base

    path = folder / "large"
    # In a process of its own: what it leaves in this one's memory is not the worker's.
    code = "import sys, pathlib, xpert.bench.personalize as p; p.write_random_model('smollm2-135m', pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    before = resident()
    base = load_base(path)
    found = {"weights_mib": sum(p.stat().st_size for p in path.glob("*.safetensors")) // MIB}
    return {**found, "resident_mib": (resident() - before) // MIB, "parameters": sum(p.numel() for p in base.model.parameters())}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        services = Services.over(open_store(folder / "store"), Settings(asking=ASKING))
        services.spaces.default()
        services.bases.register(BaseDraft(name="starter", source="starter:base"))
        found: dict[str, Any] = {"gateway_mib": resident() // MIB}
        found["worker"] = work(services, folder / "cache")
        found["catalogue_bytes_a_pllm"] = catalogue_bytes(services, folder)
        found["large_base"] = load_large(folder)
    sys.stdout.write(f"{json.dumps(found, indent=1)}\n")


if __name__ == "__main__":
    main()
