"""Export of the programs for one geometry, each checked against torch before it is used; needs torch, once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from xpert.core.errors import TrainingError
from xpert_mobile.engine import Program
from xpert_mobile.export_cache import Bucket
from xpert_mobile.export_head import head_methods
from xpert_mobile.geometry import PROJECTIONS, SCALED, Geometry, layer_weights, shapes_of
from xpert_mobile.layers import DecoderLayer, dequantized, next_token_logits
from xpert_mobile.lowering import Method, lower
from xpert_mobile.rotary import context_tables

TOLERANCE = 2e-4
"""Largest deviation from torch, as a share of the largest value, with which an export is kept."""


def training_program(geometry: Geometry, bucket: Bucket) -> bytes:
    """Export ``forward``, ``backward`` and ``loss``, and check them against torch's own autograd."""
    return _checked(*_training_methods(geometry, bucket))


def generation_program(geometry: Geometry, bucket: Bucket) -> bytes:
    """Export ``prefill``, ``decode`` and ``logits``, and check them against torch."""
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


def _training_methods(g: Geometry, bucket: Bucket) -> tuple[dict[str, Method], dict[str, tuple[Tensor, ...]]]:
    """Define the methods, and their references by torch's own autograd."""
    random = torch.Generator().manual_seed(0)
    batch, length = bucket.batch, bucket.length
    x, dy = (torch.randn(batch, length, g.hidden, generator=random) for _ in range(2))
    context = [torch.from_numpy(table) for table in context_tables(g, length)]
    weights, lora, scale = _example_layer(g, bucket, random)
    names = layer_weights(g, bucket.precision)
    n = len(names)

    def forward(x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, scale: Tensor, *rest: Tensor) -> Tensor:
        return DecoderLayer(g, dequantized(names, rest[:n]), rest[n:], scale, cos, sin).forward(x, mask)[0]

    def backward(
        x: Tensor, dy: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, scale: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        return DecoderLayer(g, dequantized(names, rest[:n]), rest[n:], scale, cos, sin).backward(x, dy, mask)

    with torch.enable_grad():
        leaves = [value.clone().requires_grad_() for value in (x, *lora)]
        y = forward(leaves[0], *context, scale, *weights, *leaves[1:])
        gradients = torch.autograd.grad(y, leaves, dy)
    backward(x, dy, *context, scale, *weights, *lora)
    methods: dict[str, Method] = {
        "forward": (forward, (x, *context, scale, *weights, *lora)),
        "backward": (backward, (x, dy, *context, scale, *weights, *lora)),
    }
    references: dict[str, tuple[Tensor, ...]] = {"forward": (y,), "backward": tuple(gradients)}
    head, expected = head_methods(g, length, bucket.vocabulary_block, random)
    return {**methods, **head}, {**references, **expected}


def _generation_methods(g: Geometry, bucket: Bucket) -> tuple[dict[str, Method], dict[str, tuple[Tensor, ...]]]:
    """Define the methods; the reference of `decode` is the last row of a whole forward pass."""
    random = torch.Generator().manual_seed(0)
    length = bucket.length
    x = torch.randn(1, length, g.hidden, generator=random)
    mask, cos, sin = (torch.from_numpy(table) for table in context_tables(g, length))
    weights, lora, scale = _example_layer(g, bucket, random)
    names = layer_weights(g, bucket.precision)
    n = len(names)

    def prefill(x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, scale: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return DecoderLayer(g, dequantized(names, rest[:n]), rest[n:], scale, cos, sin).forward(x, mask)

    def decode(
        x: Tensor,
        mask: Tensor,
        place: Tensor,
        cos: Tensor,
        sin: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        return DecoderLayer(g, dequantized(names, rest[:n]), rest[n:], scale, cos, sin).decode(x, mask, place, keys, values)

    def logits(h: Tensor, norm: Tensor, output: Tensor) -> Tensor:
        return next_token_logits(g, h, norm, output)

    rows = bucket.vocabulary_block or g.vocabulary
    whole = prefill(x, mask, cos, sin, scale, *weights, *lora)
    place = torch.zeros(length, 1)
    place[-1] = 1
    cached = [(part * (1 - place)).contiguous() for part in whole[1:]]
    now = (x[:, -1:].clone(), mask[-1:].clone(), place, cos[-1:].clone(), sin[-1:].clone(), *cached)
    head = (torch.randn(1, 1, g.hidden, generator=random), torch.ones(g.hidden), torch.randn(rows, g.hidden) * 0.05)
    methods: dict[str, Method] = {
        "prefill": (prefill, (x, mask, cos, sin, scale, *weights, *lora)),
        "decode": (decode, (*now, scale, *weights, *lora)),
        "logits": (logits, head),
    }
    references = {
        "prefill": whole,
        "decode": (whole[0][:, -1:], whole[1][:, -1:], whole[2][:, -1:]),
        "logits": (logits(*head),),
    }
    return methods, references


def _example_layer(g: Geometry, bucket: Bucket, random: torch.Generator) -> tuple[list[Tensor], list[Tensor], Tensor]:
    shapes = shapes_of(g)
    weights = []
    for name in layer_weights(g, bucket.precision):
        projection, kind = name.split(".")[-2:]
        if kind == "bias":
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
