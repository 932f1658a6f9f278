"""What the load is sent to: a store with a catalogue in it, and sites over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import api_cases
import httpx2
import numpy as np
import server_cases
from safetensors.numpy import save_file
from serving_cases import free_port, free_ports, wait_for

from xpert.core.explanation import explain_pairs
from xpert.core.space import StyleSpace
from xpert.wire import BaseDraft, ExplanationBody, PllmDraft, TokenDraft
from xpert_services.registry import Explained
from xpert_services.services import Services
from xpert_services.serving import background
from xpert_services.store import open_store

BASE = api_cases.BASE
RATE = "100000000/minute"
"""What is measured is the server, not its limit of rate."""
ADMIN = api_cases.ADMIN
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CPUS = 8
"""More than there are: during a change of version, old and new replicas run side by side. Ray counts, it does not look."""
BIG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Filled:
    """A store with pLLMs: a token that may read, and the digest of a larger artifact."""

    folder: Path
    token: str
    big: str


def fill(folder: Path, *, n_pllms: int, seed: int) -> Filled:
    """Make a store whose pLLMs have explanations by chance: their real format and size, without hours of probing."""
    services = Services.over(open_store(folder))
    services.bases.register(BaseDraft(name=BASE, source="starter:base"))
    rng, files, space = np.random.default_rng(seed), api_cases.draft_of(services.store, "any").files, StyleSpace.default()
    for number in range(n_pllms):
        _add(services, PllmDraft(name=f"pllm-{number:05d}", base=BASE, files=files), space, rng)
    services.catalogues.refresh(BASE, services.spaces.default().digest)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "big.safetensors"
        save_file({"weights": rng.normal(size=BIG_BYTES // 4).astype(np.float32)}, path)
        big = services.store.artifacts.put(path, kind="adapter").digest
    token = services.tokens.make(TokenDraft(name="load", scope="admin")).secret or ""
    return Filled(folder, token, big)


def _add(services: Services, draft: PllmDraft, space: StyleSpace, rng: np.random.Generator) -> None:
    pllm, registration, _ = services.pllms.register(draft)
    plain, other = rng.normal(size=(2, 4, space.dim)).astype(np.float32)
    digest = rng.bytes(32).hex()
    entry = explain_pairs(
        draft.name, plain, other, space, base_digest=pllm.base_digest, adapter_digest=digest, adapter_bytes=5976
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "entry.json"
        entry.save(path)
        kept = services.store.artifacts.put(path, kind="entry").digest
    told = ("word", "coefficient", "lower", "upper", "held_up")
    body = ExplanationBody(
        space=space.digest,
        words=[{key: getattr(word, key) for key in told} for word in entry.top(24)],
        strength=entry.strength,
        residual_share=entry.residual_share,
        n_probes=entry.n_probes,
    )
    services.pllms.set_explained(BASE, draft.name, registration, Explained(adapter_digest=digest, body=body, entry=kept))


@contextmanager
def embedded(filled: Filled, work: Path) -> Iterator[str]:
    """Run the embedded server over the store; gives its address."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "store").symlink_to(filled.folder)
    with server_cases.serving(work, "--rate", RATE) as (address, _):
        yield address


@contextmanager
def plain(recorded: Path) -> Iterator[str]:
    """Run plain uvicorn over recorded answers; gives its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "plain.py"), str(recorded), str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(address))
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def on_ray(
    store: str, work: Path, *, settings: Mapping[str, Any], haproxy: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Run a site on a Ray of its own; gives its addresses."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "settings.json").write_text(json.dumps({"rate": RATE, **settings}))
    arguments = ["--store", store, "--site", str(work / "settings.json"), "--cpus", str(CPUS), *free_ports()]
    with changed_environment({**(environment or {}), **({"RAY_SERVE_ENABLE_HA_PROXY": "1"} if haproxy else {})}):
        addresses = background.up(work, arguments)
    try:
        yield addresses
    finally:
        background.down(work)


@contextmanager
def changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that the block starts."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _answers(address: str) -> bool:
    try:
        httpx2.get(address)
    except httpx2.TransportError:
        return False
    return True
