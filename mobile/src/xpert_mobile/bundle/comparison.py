"""A bundle's programs against torch: the whole model of transformers on the same weights, from ids to gradients and logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import MissingExtraError
from xpert_mobile.adapter_state import AdapterState, fresh
from xpert_mobile.bundle.base_part import BundledBase
from xpert_mobile.bundle.manifest import Bundle
from xpert_mobile.engine import Program
from xpert_mobile.generation import Generator
from xpert_mobile.geometry import PROJECTIONS, Geometry, module_of
from xpert_mobile.samples import Sample
from xpert_mobile.training import LayerwiseModel

Array = NDArray[np.float32]
N_DECODED = 3
"""Tokens that are decoded one by one behind a prompt."""


@dataclass(frozen=True)
class Computed:
    """What a model gives for the same ids and adapter: empty what it has no program for."""

    loss: float | None
    gradients: Sequence[Array]
    logits: Sequence[Array]


def difference(found: Computed, expected: Computed, *, per_layer: int = 2 * len(PROJECTIONS)) -> dict[str, float]:
    """Return how far two computations are apart, each as a share of ``expected``, of what was computed.

    Returns
    -------
    dict
        ``loss``: of the mean loss. ``gradient``: length of the difference of a layer's gradient over that gradient's length, the
        largest of all layers; single values would not do, in deep models some are as small as rounding itself. ``logits``: the
        same for the logits after a token, the largest of all tokens.
    """
    shares = {}
    if found.loss is not None and expected.loss is not None:
        shares["loss"] = abs(found.loss - expected.loss) / max(abs(expected.loss), 1e-12)
        shares["gradient"] = max(
            _share(
                np.concatenate([a.ravel() for a in found.gradients[i : i + per_layer]]),
                np.concatenate([b.ravel() for b in expected.gradients[i : i + per_layer]]),
            )
            for i in range(0, len(expected.gradients), per_layer)
        )
    if expected.logits:
        shares["logits"] = max(_share(a, b) for a, b in zip(found.logits, expected.logits, strict=True))
    return shares


class Trial:
    """Random ids and an adapter that changes what the base does, for the sizes of a bundle's programs.

    Parameters
    ----------
    geometry
        Sizes of the base.
    train, generate
        What the manifest says of the programs; None for one that the bundle lacks, not for both.
    """

    def __init__(self, geometry: Geometry, train: Mapping[str, Any] | None, generate: Mapping[str, Any] | None) -> None:
        rng = np.random.default_rng(0)
        self.geometry, self.train, self.generate = geometry, train, generate
        sizes = [program for program in (train, generate) if program]

        def ids(n: int) -> list[int]:
            return [int(i) for i in rng.integers(0, geometry.vocabulary, n)]

        self.samples: list[Sample] = []
        if train:
            self.samples = [Sample(tuple(ids(int(train["length"]) - row % 3)), 1 + row) for row in range(int(train["batch"]))]
        self.prompt = ids(max(min(int(size["length"]) for size in sizes) - N_DECODED, 1))
        self.decoded = ids(N_DECODED)
        rank = int(sizes[0]["rank"])
        self.state = fresh(geometry, rank=rank, alpha=2.0 * rank, seed=0)
        for B in self.state.flat()[1::2]:
            B[:] = rng.normal(0, 0.02, B.shape)

    def by_programs(self, bundle: Bundle, *, threads: int = 2) -> Computed:
        """Run the bundle's programs."""
        base = BundledBase(bundle)
        loss: float | None = None
        gradients: list[Array] = []
        logits: list[Array] = []
        if train := self.train:
            program = Program(bundle.folder / train["file"], threads=threads)
            sizes = {key: train[key] for key in ("batch", "length", "vocabulary_block")}
            loss, gradients = LayerwiseModel(base, self.geometry, program, **sizes).loss_and_gradients(self.samples, self.state)
        if generate := self.generate:
            program = Program(bundle.folder / generate["file"], threads=threads)
            sizes = {key: generate[key] for key in ("length", "vocabulary_block")}
            logits = self._decode(Generator(base, self.geometry, program, **sizes), self._resized(int(generate["rank"])))
        return Computed(loss, gradients, logits)

    def _resized(self, rank: int) -> AdapterState:
        """Return the adapter at a generation program's rank, its effect unchanged."""
        own = self.state.rank
        scale = float(self.state.scale[0])
        if rank == own:
            return self.state
        layers = [
            [np.ascontiguousarray(_padded(part, rank, axis=j % 2)) for j, part in enumerate(layer)] for layer in self.state.layers
        ]
        return AdapterState(layers, scale)

    def _decode(self, generator: Generator, state: AdapterState) -> list[Array]:
        caches = generator.caches()
        logits = [generator.head.logits(generator.read(self.prompt, 0, caches, state))]
        for place, token in enumerate(self.decoded, len(self.prompt)):
            logits.append(generator.head.logits(generator.read([token], place, caches, state)))
        return logits

    def by_torch(self, folder: Path, weights: BundledBase | None = None) -> Computed:
        """Run transformers' own model in float32, with the bundle's weights in it where they are given."""
        import torch

        model = _load(folder)
        if weights is not None:
            own = dict(model.named_parameters())
            with torch.no_grad():
                for name, array in weights.float_weights():
                    own[name].copy_(torch.from_numpy(np.array(array)))
        loss: float | None = None
        gradients: list[Array] = []
        logits: list[Array] = []
        with _adapted(model, self.state) as leaves:
            if self.train:
                value = self._torch_loss(model)
                gradients = [g.numpy() for g in torch.autograd.grad(value, leaves)]
                loss = float(value.detach())
            if self.generate:
                with torch.no_grad():
                    rows = model(torch.tensor([[*self.prompt, *self.decoded]])).logits[0, len(self.prompt) - 1 :]
                logits = [row.numpy() for row in rows]
        return Computed(loss, gradients, logits)

    def _torch_loss(self, model: Any) -> Any:
        import torch

        total, count = torch.zeros(()), 0
        for sample in self.samples:
            ids = torch.tensor([sample.ids])
            logits = model(ids).logits[0, sample.n_prompt - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits, ids[0, sample.n_prompt :], reduction="sum")
            count += len(sample.ids) - sample.n_prompt
        return total / count


@contextmanager
def _adapted(model: Any, state: AdapterState) -> Iterator[list[Any]]:
    """Add the adapter to every projection's output; yields its A and B as leaves to differentiate by."""
    import torch

    leaves: list[Any] = []
    hooks = []
    scale = float(state.scale[0])
    for i, layer in enumerate(state.layers):
        for j, projection in enumerate(PROJECTIONS):
            A, B = (torch.from_numpy(part.copy()).requires_grad_() for part in layer[2 * j : 2 * j + 2])
            leaves += [A, B]

            def add(_: Any, inputs: Any, output: Any, A: Any = A, B: Any = B) -> Any:
                return output + inputs[0] @ A.t() @ B.t() * scale

            hooks.append(model.get_submodule(f"model.layers.{i}.{module_of(projection)}").register_forward_hook(add))
    try:
        yield leaves
    finally:
        for hook in hooks:
            hook.remove()


def _load(folder: Path) -> Any:
    try:
        import torch
        from transformers import AutoModelForCausalLM

        from xpert.models.base import quiet
    except ImportError as error:
        raise MissingExtraError(
            "An export is compared with transformers. Install: pip install 'xpert-mobile[encoder]'"
        ) from error
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True, trust_remote_code=False
        )
    return model.eval().requires_grad_(False)


def _share(found: Array, expected: Array) -> float:
    difference = np.linalg.norm(found.astype(np.float64) - expected)
    return float(difference / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-12))


def _padded(part: Array, rank: int, *, axis: int) -> Array:
    shape = list(part.shape)
    kept = min(shape[axis], rank)
    shape[axis] = rank
    padded = np.zeros(shape, np.float32)
    where = (slice(kept), slice(None)) if axis == 0 else (slice(None), slice(kept))
    padded[where] = part[where]
    return padded
