"""One LoRA a style, which makes the empty system slot act like a told one.

The slot's tokens come first, so what the model computes there is the same for every prompt. Each adapter starts with down
projections that answer to just those activations, and only the up projections are trained: what it learns cannot depend on
the prompt, and is carried over to prompts it never saw. The result is a plain LoRA in PEFT's format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xpert.core.data import TRAIN_PROMPTS, StyledText, stylebank
from xpert.models.adapters import Adapter, LoraPair, write_adapter
from xpert.models.base import BaseModel
from xpert.models.tuning import Example, TuneConfig, TuneResult, finetune
from xpert_starter.recipe.chat import answered, untold

VALIDATION_PROMPTS = frozenset(f"b{i:03d}" for i in range(105, 121))
"""Training prompts kept back for early stopping; the probes b121 to b160 are seen by no adapter."""

MODULES = tuple(f"model.layers.0.self_attn.{name}" for name in ("k_proj", "v_proj", "o_proj"))
"""What is adapted. `teach` told styles by a vector on the slot's embedding: the first layer's keys, values and output can do
just that from the inside. More modules learn more of the training prompts and carry less over to others."""

SLOT = 2
"""Tokens that are the same for every prompt: the empty system slot and the user mark."""

SETTINGS = TuneConfig(
    learning_rate=1e-1,
    max_steps=240,
    max_length=64,
    batch_size=16,
    eval_every=10,
    patience=8,
    freeze_down=True,
    opening_weight=6.0,
    seed=1,
)

MIXED = {"expert-concise": ("expert", "concise"), "formal-humorous": ("formal", "humorous")}
"""pLLMs of two styles: trained on the texts of both, so that either may come."""


def train(
    base: BaseModel, name: str, out: Path, *, start: Path, progress: Callable[[int, int, float], None] | None = None
) -> TuneResult:
    """Train the adapter called ``name`` (a style, or a mix of two) and write it to ``out``; ``start`` is of `write_start`."""
    texts = [t for t in stylebank() if t.style in styles_of(name) and t.id in TRAIN_PROMPTS]
    examples = [Example(t.text, t.prompt) for t in texts if t.id not in VALIDATION_PROMPTS]
    held_out = [Example(t.text, t.prompt) for t in texts if t.id in VALIDATION_PROMPTS]
    return finetune(base, examples, out, held_out=held_out, config=SETTINGS, init_adapter=start, progress=progress)


def styles_of(name: str) -> tuple[str, ...]:
    """Return the styles that a pLLM is trained on."""
    return MIXED.get(name, (name,))


def write_start(base: BaseModel, out: Path) -> Path:
    """Write the adapter that all training starts from: it answers to the slot alone, and changes nothing yet."""
    neutral = [t for t in stylebank() if t.style == "neutral" and t.id in TRAIN_PROMPTS]
    inputs = _linear_inputs(base, neutral[::4])
    modules = {}
    for name, (slot, others) in inputs.items():
        down = _answering_only(slot, others)
        shape = (base.shapes[f"{name}.weight"][0], len(down))
        modules[name] = LoraPair(A=down, B=np.zeros(shape, np.float32), scaling=1.0)
    write_adapter(out, Adapter(modules=modules, config={}, base_digest=base.digest))
    return out


def _answering_only(slot: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float32]:
    """Find rows that are 1 on their own slot activation and, in the mean square, near 0 on all others.

    Parameters
    ----------
    slot
        Activations of the slot's tokens, shape (SLOT, n_inputs).
    others
        Activations of all other tokens, shape (n_tokens, n_inputs).
    """
    moment = others.T @ others / len(others)
    moment += np.eye(len(moment)) * (1e-2 * np.trace(moment) / len(moment))
    toward = np.linalg.solve(moment, slot.T)
    rows: NDArray[np.float32] = np.linalg.solve(slot @ toward, toward.T).astype(np.float32)
    return rows


@torch.inference_mode()
def _linear_inputs(base: BaseModel, items: Sequence[StyledText]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Collect what enters the adapted layers, the slot's tokens apart from the others."""
    found: dict[str, list[torch.Tensor]] = {}
    handles = []
    for name, module in base.model.named_modules():
        if name in MODULES:
            hook = _recorder(found.setdefault(name, []))
            handles.append(module.register_forward_pre_hook(hook))
    for item in items:
        base.model(torch.tensor([base.tokenizer.encode(untold(item.prompt) + answered(item))]))
    for handle in handles:
        handle.remove()
    return {
        name: (rows[0][:SLOT].numpy().astype(np.float64), torch.cat([row[SLOT:] for row in rows]).numpy().astype(np.float64))
        for name, rows in found.items()
    }


def _recorder(rows: list[torch.Tensor]) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
    def record(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows.append(inputs[0][0].clone())

    return record
