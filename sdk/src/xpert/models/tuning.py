"""LoRA fine-tuning on torch: PEFT, checkpoints without pickles, early stop on held-out loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xpert.core.errors import FileFormatError, InputError, TrainingError, check_ranges
from xpert.core.files import read_json, refuse_foreign, sha256_hex, staged_folder, write_json
from xpert.models.adapters import stamp
from xpert.models.base import BaseModel
from xpert.models.names import resolve
from xpert.models.prompting import answer_ids, prompt_ids

FORMAT = "xpert-tuning"
IGNORE = -100
"""Label of tokens that the loss leaves out."""

Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, n_steps, loss)``."""


@dataclass(frozen=True)
class Example:
    """One text to learn from: the answer, and the prompt it answers if there is one."""

    answer: str
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Settings of a fine-tuning run.

    Attributes
    ----------
    rank, alpha, dropout
        Of a new adapter.
    targets
        Names of the linear layers that get an update; all of them by default.
    learning_rate, weight_decay
        Of AdamW; the rate warms up over a tenth of the steps and falls to zero along a line.
    max_steps, batch_size
        Length of the run, texts a step.
    eval_every, patience
        Steps between two measurements of the held-out loss; measurements without a new best before the run stops.
    checkpoint_every
        Steps between two checkpoints, 0 for none.
    seed
        Of the new adapter, the order of the texts and dropout.
    freeze_down
        Whether to train only the second factors (B) of an adapter to start from, as LoRA-FA does.
    opening_weight
        Weight in the loss of an answer's first tokens against the later ones: it starts here and decays to 1 over about eight
        tokens. Above 1 the run minds how answers begin, which decides their style. Held-out losses are weighted the same.
    max_length
        Longest example in tokens; longer ones are cut at the end.
    bf16
        Whether to compute in bfloat16; by default where the processor is faster in it.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_steps: int = 200
    batch_size: int = 8
    eval_every: int = 10
    patience: int = 5
    checkpoint_every: int = 20
    seed: int = 0
    freeze_down: bool = False
    opening_weight: float = 1.0
    max_length: int = 512
    bf16: bool | None = None

    def __post_init__(self) -> None:
        """Refuse settings out of range, all at once."""
        least = {"rank": 1, "max_steps": 1, "batch_size": 1, "eval_every": 1, "patience": 1, "max_length": 2}
        least |= {"checkpoint_every": 0, "seed": 0, "weight_decay": 0}
        check_ranges(
            {
                **{key: (getattr(self, key), low) for key, low in least.items()},
                **{key: (getattr(self, key), 1e-12) for key in ("learning_rate", "alpha", "opening_weight")},
                "dropout": (self.dropout, 0, 0.99),
            }
        )


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What a run gave.

    Attributes
    ----------
    adapter
        Folder of the adapter with the lowest held-out loss (the last one without held-out texts).
    losses
        Training loss of every step, in nats a token.
    held_out
        Pairs (step, held-out loss).
    best_step
        Step of the adapter that was kept.
    seconds
        Time of the steps of this call.
    """

    adapter: Path
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]
    best_step: int
    seconds: float


def finetune(
    base: BaseModel,
    examples: Sequence[Example],
    out: Path,
    *,
    held_out: Sequence[Example] = (),
    config: TuneConfig | None = None,
    init_adapter: str | Path | None = None,
    progress: Progress | None = None,
) -> TuneResult:
    """Fine-tune a LoRA adapter and write it to ``out``; a run that was cut off goes on from its last checkpoint.

    Parameters
    ----------
    base
        The base model; it is left as it was.
    examples
        Texts to learn from.
    out
        Folder of the adapter; checkpoints stand beside it, in ``.{name}.checkpoint``, until the run ends.
    held_out
        Texts to measure on, never learned from.
    config
        Settings.
    init_adapter
        Adapter to start from, in place of a new one.
    progress
        Called after every step.

    Raises
    ------
    InputError
        There is nothing to learn from.
    TrainingError
        The loss became NaN, or a checkpoint belongs to another run.
    """
    config = config or TuneConfig()
    if not examples:
        raise InputError("There are no texts to fine-tune on. Give at least one, better 20 or more.")
    if init_adapter is not None:
        base.adapter(init_adapter)  # refuses a wrong base before anything is trained
    run = _Run(base, list(examples), list(held_out), out, config, init_adapter)
    try:
        return run.train(progress)
    finally:
        run.close()


class _Run:
    def __init__(
        self,
        base: BaseModel,
        examples: list[Example],
        held_out: list[Example],
        out: Path,
        config: TuneConfig,
        init_adapter: str | Path | None,
    ) -> None:
        self.base, self.out, self.config = base, Path(out), config
        refuse_foreign(self.out)
        self.train_set = [_encode(base, example, config.max_length) for example in examples]
        self.held_out_set = [_encode(base, example, config.max_length) for example in held_out]
        # Not accelerate: it keeps one precision for the whole process, and a server tunes with several.
        self.autocast = torch.autocast(base.model.device.type, torch.bfloat16, enabled=_use_bf16(config))
        torch.manual_seed(config.seed)
        if init_adapter is None:
            peft_config = LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=list(config.targets) if config.targets else "all-linear",
                task_type="CAUSAL_LM",
            )
            self.model: Any = get_peft_model(base.model, peft_config)
        else:
            self.model = PeftModel.from_pretrained(base.model, str(resolve(init_adapter)), is_trainable=True)
        for name, value in self.model.named_parameters():
            if config.freeze_down and "lora_A" in name:
                value.requires_grad_(requires_grad=False)
        self.weights = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
        stated = asdict(config), [(e.prompt, e.answer) for e in (*examples, *held_out)], base.digest, str(init_adapter)
        self.identity = sha256_hex(json.dumps(stated).encode())
        self.checkpoint = self.out.parent / f".{self.out.name}.checkpoint"
        self.step, self.stale = 0, 0
        self.losses: list[float] = []
        self.history: list[tuple[int, float]] = []
        self.best: tuple[float, int, dict[str, torch.Tensor]] = (float("inf"), 0, {})

    def train(self, progress: Progress | None) -> TuneResult:
        self._resume()
        start = monotonic()
        if self.step == 0:
            self._measure()
        while self.step < self.config.max_steps and self.stale < self.config.patience:
            self._advance()
            if self.step % self.config.eval_every == 0 or self.step == self.config.max_steps:
                self._measure()
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                self._save_checkpoint()
            if progress:
                progress(self.step, self.config.max_steps, self.losses[-1])
        seconds = monotonic() - start
        self._write()
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        return TuneResult(
            adapter=self.out,
            losses=tuple(self.losses),
            held_out=tuple(self.history),
            best_step=self.best[1],
            seconds=seconds,
        )

    def close(self) -> None:
        """Take the adapter off the base again."""
        self.model.unload()
        if hasattr(self.base.model, "peft_config"):
            del self.base.model.peft_config

    def _advance(self) -> None:
        config = self.config
        self.model.train()
        # Dropout depends on the step alone, so that a resumed run draws what an uninterrupted one would.
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        warm = min(1.0, (self.step + 1) / max(1, config.max_steps // 10))
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * (1 - self.step / config.max_steps)
        loss = self._loss(_batch_of(self.train_set, self.step, config))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} at step {self.step + 1}. Lower the learning rate ({config.learning_rate}), or "
                "check the texts."
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(loss.item())

    def _loss(self, batch: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
        ids, mask, labels = _pad(batch, self.base.model.device)
        with self.autocast:
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=IGNORE, reduction="none"
        )
        place = (labels[:, 1:] != IGNORE).cumsum(1) - 1
        weight = (1 + (self.config.opening_weight - 1) * torch.exp(-place / 3)) * (labels[:, 1:] != IGNORE)
        return (each * weight).sum() / weight.sum()

    def _measure(self) -> None:
        if not self.held_out_set:
            self.best = (0.0, self.step, self._copy())
            return
        self.model.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for i in range(0, len(self.held_out_set), 16):
                batch = self.held_out_set[i : i + 16]
                tokens = sum(label != IGNORE for _, labels in batch for label in labels)
                total += self._loss(batch).item() * tokens
                count += tokens
        loss = total / count
        self.history.append((self.step, loss))
        if loss < self.best[0]:
            self.best, self.stale = (loss, self.step, self._copy()), 0
        else:
            self.stale += 1

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.weights.items()}

    def _write(self) -> None:
        with torch.no_grad():
            for name, value in (self.best[2] or self._copy()).items():
                self.weights[name].copy_(value)
        with staged_folder(self.out) as stage:
            self.model.save_pretrained(stage, safe_serialization=True)
            (stage / "README.md").unlink(missing_ok=True)
            stamp(stage, self.base.digest)

    def _save_checkpoint(self) -> None:
        tensors = {f"weight/{name}": value for name, value in self._copy().items()}
        tensors |= {f"best/{name}": value for name, value in self.best[2].items()}
        for name, value in self.weights.items():
            state = self.optimizer.state[value]
            tensors |= {f"{key}/{name}": state[key].clone() for key in ("exp_avg", "exp_avg_sq")}
        with staged_folder(self.checkpoint) as stage:
            save_file(tensors, stage / "state.safetensors")
            write_json(
                stage / "state.json",
                {
                    "format": FORMAT,
                    "version": 1,
                    "identity": self.identity,
                    "step": self.step,
                    "stale": self.stale,
                    "losses": self.losses,
                    "held_out": self.history,
                    "best": [self.best[0] if self.best[0] < float("inf") else None, self.best[1]],
                },
            )

    def _resume(self) -> None:
        if not (self.checkpoint / "state.json").exists():
            return
        state = read_json(self.checkpoint / "state.json", format=FORMAT, max_version=1)
        if state.get("identity") != self.identity:
            raise TrainingError(
                f"The checkpoint '{self.checkpoint}' belongs to a run with other texts, settings or models. Remove it to start "
                "anew, or give the same again to go on."
            )
        try:
            tensors = load_file(self.checkpoint / "state.safetensors")
            with torch.no_grad():
                for name, value in self.weights.items():
                    value.copy_(tensors[f"weight/{name}"])
                    self.optimizer.state[value] = {
                        "step": torch.tensor(float(state["step"])),
                        "exp_avg": tensors[f"exp_avg/{name}"],
                        "exp_avg_sq": tensors[f"exp_avg_sq/{name}"],
                    }
            best = {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}
            lowest, at = state["best"]
            self.best = (float("inf") if lowest is None else float(lowest), int(at), best)
            self.step, self.stale, self.losses = int(state["step"]), int(state["stale"]), [float(x) for x in state["losses"]]
            self.history = [(int(step), float(loss)) for step, loss in state["held_out"]]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileFormatError(f"The checkpoint '{self.checkpoint}' is broken: {error}. Remove it to start anew.") from error


def _encode(base: BaseModel, example: Example, max_length: int) -> tuple[list[int], list[int]]:
    prompt, answer = prompt_ids(base.tokenizer, example.prompt), answer_ids(base.tokenizer, example.answer)
    ids = (prompt + answer)[:max_length]
    labels = ([IGNORE] * len(prompt) + answer)[:max_length]
    if all(label == IGNORE for label in labels):
        raise InputError(
            f"A prompt of {len(prompt)} tokens leaves no room for its answer in {max_length}. Shorten it, or raise max_length."
        )
    return ids, labels


def _batch_of(items: Sequence[tuple[list[int], list[int]]], step: int, config: TuneConfig) -> list[Any]:
    """Pick a step's examples: every epoch has its own order, known from the seed alone."""
    picked = []
    for k in range(step * config.batch_size, (step + 1) * config.batch_size):
        epoch, place = divmod(k, len(items))
        picked.append(items[int(np.random.default_rng([config.seed, epoch]).permutation(len(items))[place])])
    return picked


def _pad(batch: Sequence[tuple[list[int], list[int]]], device: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORE)
    for i, (row, label) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, : len(label)] = torch.tensor(label)
    return ids.to(device), mask.to(device), labels.to(device)


def _use_bf16(config: TuneConfig) -> bool:
    if config.bf16 is not None:
        return config.bf16
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
