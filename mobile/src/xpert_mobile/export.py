"""Export of the programs for one geometry, each checked against torch before it is used; needs torch, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from xpert.core.errors import TrainingError
from xpert_mobile.bucket import Bucket
from xpert_mobile.engine import Program
from xpert_mobile.export_head import Defined, head_methods
from xpert_mobile.geometry import CHUNK, N_KEPT, PROJECTIONS, SCALED, SHOWN, TRANSPOSED, Geometry, layer_weights, shapes_of
from xpert_mobile.layers import DecoderLayer, next_token_logits
from xpert_mobile.lowering import Method, lower
from xpert_mobile.rotary import context_tables

TOLERANCE = 2e-4
"""Largest deviation from torch, as a share of the largest value, with which an export is kept."""


def training_program(geometry: Geometry, bucket: Bucket) -> bytes:
    """Export ``inner``, ``outer``, ``backward`` and the head's methods, and check them against torch's own autograd."""
    return _checked(*_training_methods(geometry, bucket))


def generation_program(geometry: Geometry, bucket: Bucket) -> bytes:
    """Export ``read``, ``decode`` and ``logits``, and check them against torch."""
    return _checked(*_generation_methods(geometry, bucket))


def _checked(methods: Mapping[str, Method], references: Mapping[str, tuple[Tensor, ...]]) -> bytes:
    program = lower(methods)
    check_program(program, methods, references)
    return program


def check_program(program: bytes, methods: Mapping[str, Method], references: Mapping[str, tuple[Tensor, ...]]) -> None:
    """Run every method once and compare with torch.

    Raises
    ------
    TrainingError
        A value deviates: the program is not kept.
    """
    loaded = Program(program, threads=2)
    for name, (_, inputs) in methods.items():
        found = loaded.run(name, [value.numpy() for value in inputs])
        for i, (ours, theirs) in enumerate(zip(found, references[name], strict=True)):
            expected = theirs.detach().numpy()
            error = float(np.abs(ours - expected).max() / (np.abs(expected).max() + 1e-12))
            if not error <= TOLERANCE:
                raise TrainingError(
                    f"The export of '{name}' deviates from torch by {error:.1e} in output {i}, at most {TOLERANCE:.0e} is "
                    "allowed; it is not kept. Check the versions of torch and executorch against the lock."
                )


def _training_methods(g: Geometry, bucket: Bucket) -> Defined:
    """Define the methods, and their references by torch's own autograd."""
    random = torch.Generator().manual_seed(0)
    batch, length = bucket.batch, bucket.length
    x, dy = (torch.randn(batch, length, g.hidden, generator=random) for _ in range(2))
    example = _ExampleLayer(g, bucket, random)
    prefix = example.prefix(bucket.prefix)
    inputs = (*_context(g, length, before=bucket.prefix), *example.inputs, *prefix)

    def inner(x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return example.layer(cos, sin, rest).inner(x, mask)

    def outer(h: Tensor, gate: Tensor, up: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, *rest: Tensor) -> Tensor:
        return example.layer(cos, sin, rest).outer(h, gate, up)

    def backward(x: Tensor, dy: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        kept, (mask, cos, sin) = rest[:N_KEPT], rest[N_KEPT : N_KEPT + 3]
        return example.layer(cos, sin, rest[N_KEPT + 3 :]).backward(x, dy, mask, kept)

    with torch.enable_grad():
        trained = {id(value): value.clone().requires_grad_() for value in (x, *(prefix or example.lora))}
        rest = [trained.get(id(value), value) for value in inputs]
        found = inner(trained[id(x)], *rest)
        y = outer(*found[SHOWN:], *rest)
        gradients = torch.autograd.grad(y, list(trained.values()), dy)
    kept = tuple(_contiguous(value.detach()) for value in found)
    methods: dict[str, Method] = {
        "inner": (inner, (x, *inputs)),
        "outer": (outer, (*kept[SHOWN:], *inputs)),
        "backward": (backward, (x, dy, *kept, *inputs)),
    }
    references: dict[str, tuple[Tensor, ...]] = {"inner": kept, "outer": (y,), "backward": tuple(gradients)}
    head, expected = head_methods(g, batch, length, bucket.vocabulary_block, random)
    return {**methods, **head}, {**references, **expected}


def _generation_methods(g: Geometry, bucket: Bucket) -> Defined:
    """Define the methods; the references of `read` and `decode` are the last rows of one pass over all tokens."""
    random = torch.Generator().manual_seed(0)
    length, chunk = bucket.length, min(CHUNK, bucket.length)
    example = _ExampleLayer(g, bucket, random)

    def read(x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return example.layer(cos, sin, rest).forward(x, mask)

    def logits(h: Tensor, norm: Tensor, output: Tensor) -> Tensor:
        return next_token_logits(g, h, norm, output)

    x = torch.randn(1, length + chunk, g.hidden, generator=random)
    mask, cos, sin = _context(g, length + chunk)
    whole = read(x, mask, cos, sin, *example.inputs)
    cache = [part[:, :length] for part in whole[1:]]
    methods: dict[str, Method] = {}
    references: dict[str, tuple[Tensor, ...]] = {}
    for name, n in (("read", chunk), ("decode", 1)):
        # As if the cache were full, and these tokens stood behind it.
        now = slice(length, length + n)
        context = (mask[now, : length + n], cos[now], sin[now])
        inputs = (x[:, now], *context, *example.inputs, *cache)
        methods[name] = (read, tuple(_contiguous(value) for value in inputs))
        references[name] = (whole[0][:, now], whole[1][:, now], whole[2][:, now])
    rows = torch.randn(bucket.vocabulary_block, g.hidden, generator=random) * 0.05
    head = (torch.randn(1, 1, g.hidden, generator=random), torch.ones(g.hidden), rows)
    return {**methods, "logits": (logits, head)}, {**references, "logits": (logits(*head),)}


def _context(g: Geometry, length: int, *, before: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return mask, cosines and sines of tokens that stand behind ``before`` places, open to all of them."""
    mask, cos, sin = (torch.from_numpy(table) for table in context_tables(g, before + length))
    return mask[before:].clone(), cos[before:].clone(), sin[before:].clone()


def _contiguous(value: Tensor) -> Tensor:
    """Copy a value as hosts hand it over: strides of examples are exported too, and values that were turned over have others."""
    return value.clone(memory_format=torch.contiguous_format)


class _ExampleLayer:
    """Random weights and an adapter that changes something, and the layer that a method builds from its inputs."""

    def __init__(self, g: Geometry, bucket: Bucket, random: torch.Generator) -> None:
        self.g, self.random = g, random
        self.names = layer_weights(g, bucket.precision, transposed=bucket.transposed)
        weights, self.lora, scale = _example_values(g, bucket, random)
        self.inputs = (scale, *weights, *self.lora)

    def prefix(self, places: int) -> list[Tensor]:
        """Return random keys and values for as many places; none for 0."""
        shape = (self.g.n_kv_heads, places, self.g.head_dim)
        return [torch.randn(shape, generator=self.random) for _ in range(2 if places else 0)]

    def layer(self, cos: Tensor, sin: Tensor, rest: Sequence[Tensor]) -> DecoderLayer:
        """Build the layer from ``scale, *weights, *lora, *prefix``, the order in which all methods take them."""
        first = 1 + len(self.names)
        last = first + len(self.lora)
        weights = dict(zip(self.names, rest[1:first], strict=True))
        return DecoderLayer(self.g, weights, rest[first:last], rest[0], cos, sin, rest[last:])


def _example_values(g: Geometry, bucket: Bucket, random: torch.Generator) -> tuple[list[Tensor], list[Tensor], Tensor]:
    shapes = shapes_of(g)
    weights: list[Tensor] = []
    for name in layer_weights(g, bucket.precision, transposed=bucket.transposed):
        projection, kind = name.split(".")[-2:]
        if kind == TRANSPOSED:
            stored = weights[-2 if bucket.precision == "int8" else -1]  # behind the weight, and its scales where it has some
            weights.append(stored.t().contiguous())
        elif kind == "bias":
            weights.append(torch.randn(shapes[projection][0], generator=random) * 0.1)
        elif kind == SCALED:
            weights.append((0.5 + torch.rand(shapes[projection][0], 1, generator=random)) / 64 / shapes[projection][1] ** 0.5)
        elif projection not in shapes:
            weights.append(1 + 0.1 * torch.randn(g.hidden, generator=random))
        elif bucket.precision == "int8":
            weights.append(torch.randint(-127, 128, shapes[projection], generator=random, dtype=torch.int8))
        else:
            weights.append(torch.randn(*shapes[projection], generator=random) / shapes[projection][1] ** 0.5)
    lora = []
    for projection in PROJECTIONS:
        outputs, inputs = shapes[projection]
        lora.append(torch.randn(bucket.rank, inputs, generator=random) / inputs**0.5)
        lora.append(torch.randn(outputs, bucket.rank, generator=random) * 0.05)
    return weights, lora, torch.tensor([2.0])
