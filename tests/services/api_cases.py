"""What the tests of the server share: an app over a store, callers of each scope, and adapters that are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from starlette.testclient import TestClient

import xpert_starter
from xpert.core.explanation import explain_pairs
from xpert.core.space import StyleSpace
from xpert.wire import BaseDraft, ExplanationBody, Pllm, PllmDraft, TokenDraft
from xpert.wire.bodies import Scope
from xpert_services.api import Limits, create_app
from xpert_services.explainer.asking import Asking
from xpert_services.registry import Explained
from xpert_services.services import Services, Settings
from xpert_services.store import FolderObjects, Store, open_store

ADMIN = "an-administrator-of-the-tests-" + "0" * 12
ASKING = Asking(probes=("How do you make tea?", "What is a good walk?", "Why is the sky blue?", "Name a book."), max_new_tokens=8)
BASE = "starter"


class ShiftedFolder(FolderObjects):
    """A folder whose clock is ahead."""

    def __init__(self, root: Path, *, ahead: float = 0.0) -> None:
        super().__init__(root)
        self.ahead = ahead

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass
class Site:
    """An app over a store, asked without a network."""

    store: Store
    settings: Settings = field(default_factory=lambda: Settings(admin_token=ADMIN, asking=ASKING))
    limits: Limits = field(default_factory=lambda: Limits(requests="100000/minute", anonymous="100000/minute"))

    def __post_init__(self) -> None:
        self.services = Services.over(self.store, self.settings)
        self.app = create_app(self.services, limits=self.limits)

    def client(self, scope: Scope | None = "admin") -> TestClient:
        """A client with a token of a scope, or without any."""
        client = TestClient(self.app, base_url="http://xpert.test", raise_server_exceptions=False, follow_redirects=False)
        if scope == "admin":
            client.headers["authorization"] = f"Bearer {ADMIN}"
        elif scope:
            client.headers["authorization"] = f"Bearer {self.services.tokens.make(TokenDraft(name='t', scope=scope)).secret}"
        return client

    def with_base(self) -> Site:
        self.services.bases.register(BaseDraft(name=BASE, source="starter:base"))
        return self


def site_at(folder: Path, **changes: Any) -> Site:
    return Site(open_store(folder), **changes)


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")}


def send(client: httpx2.Client, path: Path, *, kind: str = "adapter") -> str:
    """Upload a file as any client does; returns its digest."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    asked = client.post("/v1/uploads", json={"digest": digest, "size": len(data), "kind": kind})
    assert asked.status_code == 200, asked.text
    if not asked.json()["present"]:
        sent = client.put(asked.json()["url"], content=data, headers=asked.json()["headers"])
        assert sent.status_code == 204, sent.text
    return digest


def publish(client: httpx2.Client, name: str, folder: Path | None = None) -> dict[str, Any]:
    """Upload an adapter (by default the starter's of that name) and register it."""
    files = {each: send(client, path) for each, path in files_of(folder or xpert_starter.path_of(name)).items()}
    answer = client.post("/v1/pllms", json={"name": name, "base": BASE, "files": files})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def draft_of(store: Store, name: str, *, adapter: str = "concise") -> PllmDraft:
    """Store the files of a starter adapter and return what registers them under a name."""
    files = {
        each: store.artifacts.put(path, kind="adapter").digest for each, path in files_of(xpert_starter.path_of(adapter)).items()
    }
    return PllmDraft(name=name, base=BASE, files=files)


def explain_by_chance(
    services: Services, pllm: Pllm, folder: Path, *, seed: int, words: Mapping[str, float] | None = None
) -> Explained:
    """Give a pLLM an explanation in the real format, without a model."""
    space = StyleSpace.default()
    rng = np.random.default_rng(seed)
    plain, other = rng.normal(size=(2, 6, space.dim)).astype(np.float32)
    digest = hashlib.sha256(f"{pllm.name} {seed}".encode()).hexdigest()
    entry = explain_pairs(pllm.name, plain, other, space, base_digest=pllm.base_digest, adapter_digest=digest, adapter_bytes=5976)
    path = folder / f"{pllm.name}.{seed}.entry.json"
    entry.save(path)
    body = ExplanationBody(
        space=space.digest,
        words=[
            {
                "word": w.word,
                "coefficient": (words or {}).get(w.word, w.coefficient),
                "lower": w.lower,
                "upper": w.upper,
                "held_up": w.held_up,
            }
            for w in entry.top(24)
        ],
        strength=entry.strength,
        residual_share=entry.residual_share,
        n_probes=entry.n_probes,
    )
    explained = Explained(adapter_digest=digest, body=body, entry=services.store.artifacts.put(path, kind="entry").digest)
    services.pllms.set_explained(pllm.base, pllm.name, services.pllms.registration(pllm.base, pllm.name), explained)
    services.catalogues.refresh(pllm.base, space.digest)
    return explained
