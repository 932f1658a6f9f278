"""The handler of jobs that merge."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpert.core.errors import NotFoundError
from xpert.core.merging import MergeRecipe, Source
from xpert.models.adapters import Adapter, write_adapter
from xpert.models.base import BaseModel
from xpert.models.merging import merge_adapters
from xpert.wire import MergeSource, Pllm, PllmDraft
from xpert_services.explainer.asking import Explanations
from xpert_services.explainer.models import Models
from xpert_services.jobs import Lease
from xpert_services.registry import Pllms
from xpert_services.store import Store


class Merger:
    """Merges pLLMs, and asks for the explanation of what comes out.

    Parameters
    ----------
    store
        Where artifacts are.
    models
        Loaded models.
    pllms
        What is registered.
    explanations
        Where explanations are asked for.
    """

    def __init__(self, store: Store, models: Models, *, pllms: Pllms, explanations: Explanations) -> None:
        self._store, self._models, self._pllms, self._explanations = store, models, pllms, explanations

    def __call__(self, leases: Sequence[Lease]) -> None:
        """Do jobs, one by one."""
        for lease in leases:
            self._merge(lease)

    def _merge(self, lease: Lease) -> None:
        inputs = lease.job.inputs
        base = self._models.base(inputs["base"], inputs["base_digest"])
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            sources = []
            for number, source in enumerate(inputs["sources"]):
                sources.append((self._fetch(base, inputs["base"], source, Path(folder) / source["pllm"]), source["weight"]))
                lease.report(number + 1, lease.job.total)
            merged = merge_adapters(sources, rank=inputs["rank"])
            out = Path(folder) / "merged" / "adapter"
            write_adapter(out, merged.adapter, base_name=inputs["base"])
            _recipe(base.digest, inputs, [adapter for adapter, _ in sources]).save(out / "recipe.json")
            lease.renew()
            files = {name: artifact.digest for name, artifact in self._store.artifacts.put_folder(out).items()}
        pllm = self._register(lease, files)
        lease.succeed({"pllm": f"{pllm.base}/{pllm.name}", "job": pllm.job or "", "error": f"{merged.error:.6f}"})

    def _fetch(self, base: BaseModel, where: str, source: dict[str, Any], folder: Path) -> Adapter:
        pllm = self._pllms.get(where, source["pllm"])
        if self._pllms.registration(where, source["pllm"]) != source["registration"]:
            raise NotFoundError(f"The pLLM '{source['pllm']}' of '{where}' was registered anew. Ask again.")
        return base.adapter(self._models.fetch(dict(pllm.files), folder))

    def _register(self, lease: Lease, files: dict[str, str]) -> Pllm:
        inputs = lease.job.inputs
        draft = PllmDraft(name=inputs["name"], base=inputs["base"], files=files)
        sources = [MergeSource(pllm=source["pllm"], weight=source["weight"]) for source in inputs["sources"]]
        pllm, registration, _ = self._pllms.register(draft, merged_from=sources, origin=lease.id)
        return self._explanations.ask_after(pllm, registration)


def _recipe(base_digest: str, inputs: Any, adapters: Sequence[Adapter]) -> MergeRecipe:
    return MergeRecipe(
        base_digest=base_digest,
        sources=tuple(
            Source(name=source["pllm"], adapter_digest=adapter.digest, weight=source["weight"])
            for source, adapter in zip(inputs["sources"], adapters, strict=True)
        ),
        method="svd" if inputs["rank"] else "exact",
        rank=inputs["rank"],
    )
