"""Fine-tuning layer by layer: only the layers' inputs are kept, the base stays mapped, AdamW runs on the adapter alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import InputError, TrainingError
from xpert.core.files import refuse_foreign, remove_abandoned, sha256_hex
from xpert.core.runtime import PersonalizeOptions, PersonalizeResult, Progress
from xpert_mobile.adapter_state import AdapterState, to_peft
from xpert_mobile.checkpoint import read_checkpoint, write_checkpoint
from xpert_mobile.engine import Program
from xpert_mobile.geometry import SHOWN, Geometry
from xpert_mobile.head import Head
from xpert_mobile.rotary import context_tables
from xpert_mobile.samples import Sample
from xpert_mobile.weights import BaseWeights

Array = NDArray[np.float32]
BETAS, EPSILON = (0.9, 0.999), 1e-8
CLIP = 1.0
WARM_UP = 0.1
CHECKPOINT_EVERY = 5
"""Steps between two checkpoints; a run that was cut off repeats at most these, to the same bits."""


class LayerwiseModel:
    """Losses and gradients of a base with an adapter, computed one layer at a time.

    Parameters
    ----------
    base
        The mapped weights.
    geometry
        Sizes.
    program
        As of `xpert_mobile.export.training_program`.
    batch, length
        The program's sizes.
    vocabulary_block
        Rows of the output layer that its head takes a run.
    """

    def __init__(
        self,
        base: BaseWeights,
        geometry: Geometry,
        program: Program,
        *,
        batch: int,
        length: int,
        vocabulary_block: int,
    ) -> None:
        self.base, self.geometry, self.program = base, geometry, program
        self.batch, self.length = batch, length
        self.head = Head(program, base, block=vocabulary_block)
        self.tables = context_tables(geometry, length)

    def loss(self, samples: Sequence[Sample], state: AdapterState) -> tuple[float, int]:
        """Return the mean loss over the samples' answers, in nats a token, and their number of tokens."""
        inputs, _, value, count = self._forward(samples, state)
        del inputs
        return value, count

    def loss_and_gradients(self, samples: Sequence[Sample], state: AdapterState) -> tuple[float, list[Array]]:
        """Return the mean loss and its gradients, in the order of ``state.flat()``."""
        inputs, grad, value, _ = self._forward(samples, state)
        gradients: list[list[Array]] = []
        for i in reversed(range(self.geometry.n_layers)):
            rest = self._layer_inputs(i, state)
            out = self.program.run("backward", [inputs[i], grad, *self.program.run("inner", [inputs[i], *rest]), *rest])
            self.base.release(i)
            grad = out[0]
            gradients.append(out[1:])
        return value, [array for layer in reversed(gradients) for array in layer]

    def _forward(self, samples: Sequence[Sample], state: AdapterState) -> tuple[list[Array], Array, float, int]:
        ids, target, weight = self._padded(samples)
        inputs = [self.base.embedding[ids]]
        for i in range(self.geometry.n_layers):
            rest = self._layer_inputs(i, state)
            shown = self.program.run("inner", [inputs[-1], *rest])[SHOWN:]
            inputs.append(self.program.run("outer", [*shown, *rest])[0])
            self.base.release(i)
        value, grad = self.head.loss(inputs[-1], target, weight)
        return inputs, grad, value, int(np.count_nonzero(weight))

    def _layer_inputs(self, layer: int, state: AdapterState) -> list[Array]:
        """List what every method of the program takes behind its own inputs."""
        return [*self.tables, state.scale, *self.base.layers[layer], *state.layers[layer]]

    def _padded(self, samples: Sequence[Sample]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Return ids, next tokens and their weights in the loss, which add up to 1; each of shape (batch, length)."""
        ids = np.zeros((self.batch, self.length), np.int64)
        target = np.zeros((self.batch, self.length), np.int64)
        weight = np.zeros((self.batch, self.length), np.float32)
        for row, sample in enumerate(samples):
            n = len(sample.ids)
            ids[row, :n] = sample.ids
            target[row, : n - 1] = sample.ids[1:]
            weight[row, sample.n_prompt - 1 : n - 1] = 1
        weight /= max(weight.sum(), 1)
        return ids, target, weight


class Trainer:
    """One fine-tuning run, resumable to the bit.

    Parameters
    ----------
    model
        What computes losses and gradients.
    start
        The adapter to start from.
    samples
        All texts; a share of them, drawn by the seed, is held out.
    options
        Settings.
    out
        Folder of the adapter; the checkpoint stands beside it, in ``.{name}.checkpoint.safetensors``, until the run ends.
    """

    def __init__(
        self, model: LayerwiseModel, start: AdapterState, samples: Sequence[Sample], options: PersonalizeOptions, out: Path
    ) -> None:
        self.model, self.options, self.out = model, options, Path(out)
        self.train_set, self.held_out_set = split(samples, share=options.held_out, seed=options.seed)
        self.state = start
        refuse_foreign(self.out)
        self.moments = [(np.zeros_like(a), np.zeros_like(a)) for a in start.flat()]
        # What a run is: resuming another one's checkpoint would be wrong without a sign of it.
        stated = [model.base.digest, asdict(options), [[s.ids, s.n_prompt] for s in samples], start.rank]
        digest = sha256_hex(b"".join(a.tobytes() for a in start.flat()))
        self.identity = sha256_hex((json.dumps(stated) + digest).encode())
        self.checkpoint = self.out.parent / f".{self.out.name}.checkpoint.safetensors"
        self.step, self.stale = 0, 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.history: list[tuple[int, float]] = []
        self.best, self.best_loss = start.copy(), float("inf")

    def run(self, progress: Progress | None = None) -> PersonalizeResult:
        """Train to the end and write the best adapter.

        Raises
        ------
        TrainingError
            The loss became NaN, or the checkpoint belongs to another run.
        FileFormatError
            The checkpoint is broken.
        StorageError
            The disk is full; the checkpoint before stays, and the run goes on from it when it is started again.
        """
        remove_abandoned(self.checkpoint)
        self._resume()
        begin = monotonic() - self.seconds
        if self.step == 0:
            self._measure()
        while self.step < self.options.max_steps and not self._finished():
            self.advance()
            if self.step % self.options.eval_every == 0 or self.step == self.options.max_steps:
                self._measure()
            self.seconds = monotonic() - begin
            if self.step % CHECKPOINT_EVERY == 0:
                self._save()
            if progress:
                progress(self.step, self.options.max_steps, self.losses[-1])
        base = self.model.base
        to_peft(self.best, self.out, base_digest=base.digest, base_name="")
        self.checkpoint.unlink(missing_ok=True)
        return PersonalizeResult(
            adapter=self.out,
            losses=tuple(self.losses),
            held_out=tuple(self.history),
            steps=self.step,
            seconds=self.seconds,
        )

    def _finished(self) -> bool:
        reached = self.options.target_loss is not None and self.best_loss <= self.options.target_loss
        return reached or self.stale >= self.options.patience

    def advance(self) -> None:
        """Run one step.

        Raises
        ------
        TrainingError
            The loss became NaN.
        """
        picked = batch_of(self.train_set, self.step, size=self.options.batch_size, seed=self.options.seed)
        loss, gradients = self.model.loss_and_gradients(picked, self.state)
        norm = float(np.sqrt(sum(float(np.vdot(g, g)) for g in gradients)))
        if not np.isfinite(norm + loss):
            raise TrainingError(
                f"The loss became {loss} at step {self.step + 1}. Lower the learning rate ({self.options.learning_rate}), or "
                "check the texts."
            )
        factor = np.float32(min(1.0, CLIP / (norm + 1e-6)))
        warm = max(1.0, WARM_UP * self.options.max_steps)
        rate = self.options.learning_rate * min(1.0, (self.step + 1) / warm)
        self.step += 1
        for value, gradient, moments in zip(self.state.flat(), gradients, self.moments, strict=True):
            adamw(value, gradient * factor, *moments, rate=rate, step=self.step)
        self.losses.append(loss)

    def _measure(self) -> None:
        if not self.held_out_set:
            self.best = self.state.copy()
            return
        size = self.options.batch_size
        parts = [self.model.loss(self.held_out_set[i : i + size], self.state) for i in range(0, len(self.held_out_set), size)]
        loss = sum(value * count for value, count in parts) / sum(count for _, count in parts)
        self.history.append((self.step, loss))
        if loss < self.best_loss:
            self.best, self.best_loss, self.stale = self.state.copy(), loss, 0
        else:
            self.stale += 1

    def _save(self) -> None:
        arrays = {f"value.{i}": a for i, a in enumerate(self.state.flat())}
        arrays |= {f"best.{i}": a for i, a in enumerate(self.best.flat())}
        arrays |= {f"moment.{k}.{i}": pair[k] for i, pair in enumerate(self.moments) for k in (0, 1)}
        numbers = {
            "identity": self.identity,
            "step": self.step,
            "stale": self.stale,
            "seconds": self.seconds,
            "losses": self.losses,
            "held_out": self.history,
            "best_loss": repr(self.best_loss),
        }
        write_checkpoint(self.checkpoint, arrays, numbers)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        arrays, numbers = read_checkpoint(self.checkpoint)
        if numbers["identity"] != self.identity:
            raise TrainingError(
                f"The checkpoint '{self.checkpoint}' belongs to a run with other texts, settings or models. Remove it to "
                "start anew, or give the same again to go on."
            )
        for i, (value, best) in enumerate(zip(self.state.flat(), self.best.flat(), strict=True)):
            value[...], best[...] = arrays[f"value.{i}"], arrays[f"best.{i}"]
            for k in (0, 1):
                self.moments[i][k][...] = arrays[f"moment.{k}.{i}"]
        self.step, self.stale, self.losses = numbers["step"], numbers["stale"], numbers["losses"]
        self.history = [(step, loss) for step, loss in numbers["held_out"]]
        self.best_loss, self.seconds = float(numbers["best_loss"]), numbers["seconds"]


def split(samples: Sequence[Sample], *, share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split texts into those to learn from and those held out; with fewer than five texts none is held out.

    Raises
    ------
    InputError
        There are no texts, or the share is out of range.
    """
    if not samples or not 0 <= share < 1:
        raise InputError(f"{len(samples)} texts with a held-out share of {share}: expected at least one, and a share below 1.")
    order = np.random.default_rng([seed, 1]).permutation(len(samples))
    n_held = round(share * len(samples)) if len(samples) >= 5 else 0
    return [samples[i] for i in order[n_held:]], [samples[i] for i in order[:n_held]]


def batch_of(samples: Sequence[Sample], step: int, *, size: int, seed: int) -> list[Sample]:
    """Pick a step's texts: every epoch has its own order, known from the seed alone."""
    picked = []
    for k in range(step * size, (step + 1) * size):
        epoch, place = divmod(k, len(samples))
        picked.append(samples[int(np.random.default_rng([seed, 2, epoch]).permutation(len(samples))[place])])
    return picked


def adamw(value: Array, gradient: Array, first: Array, second: Array, *, rate: float, step: int) -> None:
    """Update ``value`` in place by AdamW without weight decay, as torch does."""
    first *= np.float32(BETAS[0])
    first += np.float32(1 - BETAS[0]) * gradient
    second *= np.float32(BETAS[1])
    second += np.float32(1 - BETAS[1]) * gradient * gradient
    root = np.sqrt(second) / np.float32((1 - BETAS[1] ** step) ** 0.5) + np.float32(EPSILON)
    value -= np.float32(rate / (1 - BETAS[0] ** step)) * first / root
