"""The training loop that pretraining and teaching share: compiled, bfloat16, time-bounded, resumable after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xpert.core.files import read_json, staged_folder

FORMAT = "xpert-starter-training"
SAVE_EVERY = 120.0
"""Seconds between two checkpoints."""

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Ids, labels (both (B, S)), and vectors added to the first position (B, hidden) or None."""


def train(
    model: Any,
    batches: Iterator[Batch],
    folder: Path,
    *,
    minutes: float,
    learning_rate: float,
    weight_decay: float,
    extra: torch.nn.Parameter | None = None,
    compiled: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Train ``model`` for ``minutes`` in all, checkpointing into ``folder``; a run that was cut off goes on.

    Parameters
    ----------
    model
        A causal LM.
    batches
        Endless.
    folder
        Where checkpoints go.
    minutes
        Time of all runs together; the learning rate falls over its last seven tenths.
    learning_rate, weight_decay
        Of AdamW.
    extra
        A further parameter, trained five times as fast.
    compiled
        Whether to compile the step: four times as fast, after a minute.
    say
        Takes a line of progress.
    """
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay, "factor": 1.0}]
    groups.append({"params": others, "weight_decay": 0.0, "factor": 1.0})
    if extra is not None:
        groups.append({"params": [extra], "weight_decay": 0.0, "factor": 5.0})
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))
    values = [*matrices, *others, *([extra] if extra is not None else [])]
    loss_of = torch.compile(_loss, dynamic=False) if compiled else _loss
    step, spent, losses = *_resume(folder, values, optimizer), list[float]()
    begin, saved = monotonic(), monotonic()
    while (elapsed := spent + monotonic() - begin) < minutes * 60:
        ids, labels, shift = next(batches)
        rate = learning_rate * min(1.0, (step + 1) / 60) * max(0.02, min(1.0, (1 - elapsed / minutes / 60) / 0.7))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = loss_of(model, ids, labels, shift)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        if step % 50 == 0:
            say(f"{elapsed:.0f} s, step {step}, loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
        if monotonic() - saved > SAVE_EVERY:
            _save(folder, values, optimizer, step, spent + monotonic() - begin)
            saved = monotonic()
    _save(folder, values, optimizer, step, minutes * 60)


def _loss(model: Any, ids: Tensor, labels: Tensor, shift: Tensor | None) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        inputs = model.model.embed_tokens(ids)
        if shift is not None:
            inputs = inputs + torch.nn.functional.pad(shift[:, None], (0, 0, 0, ids.shape[1] - 1))
        logits = model.lm_head(model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state)
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)


def _save(folder: Path, values: list[Any], optimizer: Any, step: int, spent: float) -> None:
    tensors = {f"value.{i}": value.detach().clone() for i, value in enumerate(values)}
    for i, value in enumerate(values):
        state = optimizer.state.get(value, {})
        tensors |= {f"{key}.{i}": state[key].clone() for key in ("exp_avg", "exp_avg_sq") if key in state}
    with staged_folder(folder) as stage:
        save_file(tensors, stage / "state.safetensors")
        text = json.dumps({"format": FORMAT, "version": 1, "step": step, "seconds": spent})
        (stage / "state.json").write_text(text)


def _resume(folder: Path, values: list[Any], optimizer: Any) -> tuple[int, float]:
    if not (folder / "state.json").exists():
        return 0, 0.0
    state = read_json(folder / "state.json", format=FORMAT, max_version=1)
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for i, value in enumerate(values):
            value.copy_(tensors[f"value.{i}"])
            if f"exp_avg.{i}" in tensors:
                optimizer.state[value] = {
                    "step": torch.tensor(float(state["step"])),
                    "exp_avg": tensors[f"exp_avg.{i}"],
                    "exp_avg_sq": tensors[f"exp_avg_sq.{i}"],
                }
    return int(state["step"]), float(state["seconds"])
