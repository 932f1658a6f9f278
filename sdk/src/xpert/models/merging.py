"""Exact merges by task arithmetic: base + sum of weight x (pLLM - base), as one adapter or as a full model.

The task vector of a LoRA pLLM is scaling * B @ A, so a weighted sum of several is one adapter whose factors are the others'
side by side. PEFT's ``linear`` combination of the factors themselves is not that: it adds products across adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xpert.core.errors import InputError, MismatchError
from xpert.core.files import staged_folder
from xpert.models.adapters import Adapter, LoraPair
from xpert.models.base import BaseModel


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedAdapter:
    """A merged adapter and what truncation took from it.

    Attributes
    ----------
    adapter
        The merged adapter; every scaling is 1.
    error
        Length of what truncation removed over that of the exact update, all modules together; 0 for an exact merge.
    """

    adapter: Adapter
    error: float


def merge_adapters(sources: Sequence[tuple[Adapter, float]], *, rank: int | None = None) -> MergedAdapter:
    """Merge adapters of one base into one.

    Parameters
    ----------
    sources
        Adapters with their weights; ranks, scalings and modules may differ.
    rank
        Largest rank of the result, by truncated singular value decomposition; None keeps the sum of the ranks, exactly.

    Raises
    ------
    InputError
        There is no source, a weight is not finite, or the rank is below 1.
    MismatchError
        The sources belong to different bases, or shapes differ.
    """
    if not sources or not all(np.isfinite(weight) for _, weight in sources) or (rank is not None and rank < 1):
        raise InputError("A merge takes at least one adapter, finite weights, and a rank of at least 1 where one is given.")
    bases = sorted({adapter.base_digest for adapter, _ in sources if adapter.base_digest})
    if len(bases) > 1:
        raise MismatchError(
            f"Cannot merge adapters of different bases: {', '.join(base[:12] for base in bases)}. Pick pLLMs that share one."
        )
    modules, removed, whole = {}, 0.0, 0.0
    for name in sorted({module for adapter, _ in sources for module in adapter.modules}):
        pairs = [(adapter.modules[name], weight) for adapter, weight in sources if name in adapter.modules]
        if len({(pair.B.shape[0], pair.A.shape[1]) for pair, _ in pairs}) > 1:
            raise MismatchError(f"Cannot merge: {name} has different shapes in the sources. Pick pLLMs that share one base.")
        down = np.concatenate([pair.A for pair, _ in pairs])
        up = np.concatenate([pair.B * (weight * pair.scaling) for pair, weight in pairs], axis=1)
        down, up, lost, total = _truncate(down, up, rank)
        modules[name] = LoraPair(A=down.astype(np.float32), B=up.astype(np.float32), scaling=1.0)
        removed, whole = removed + lost, whole + total
    merged = Adapter(modules=modules, config=sources[0][0].config, base_digest=bases[0] if bases else "")
    return MergedAdapter(adapter=merged, error=(removed / whole) ** 0.5 if whole > 0 else 0.0)


def merge_full(base: BaseModel, sources: Sequence[tuple[Adapter, float]], out: Path) -> Path:
    """Merge adapters into the base's weights and write a full model in Hugging Face's format.

    Raises
    ------
    InputError, MismatchError
        As of `merge_adapters`.
    """
    merged = merge_adapters(sources).adapter
    weights = {name: base.model.get_submodule(name).weight for name in merged.modules}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, pair in merged.modules.items():
                update = torch.from_numpy(pair.B.astype(np.float64) @ pair.A.astype(np.float64))
                weights[name].copy_((before[name].double() + update.to(before[name].device)).to(before[name].dtype))
        with staged_folder(out) as stage:
            base.model.save_pretrained(stage)
            base.tokenizer.save_pretrained(stage)
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
    return Path(out)


def _truncate(down: np.ndarray, up: np.ndarray, rank: int | None) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Cut ``up @ down`` to ``rank``; returns the factors, the squared length removed and that of the whole.

    The decomposition runs on the small factors of two QR decompositions: the full matrix is never formed.
    """
    if rank is None:
        return down, up, 0.0, 1.0
    q_up, r_up = np.linalg.qr(up.astype(np.float64))
    q_down, r_down = np.linalg.qr(down.astype(np.float64).T)
    left, values, right = np.linalg.svd(r_up @ r_down.T)
    kept = min(rank, len(values))
    root = np.sqrt(values[:kept])
    return (
        root[:, None] * (right[:kept] @ q_down.T),
        (q_up @ left[:, :kept]) * root,
        float(np.sum(values[kept:] ** 2)),
        float(np.sum(values**2)),
    )
