"""The methods that turn final hidden states into a loss and its gradient, by blocks of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from xpert_mobile.geometry import MASKED, Geometry
from xpert_mobile.layers import block_pull, block_scores, loss_and_gradient
from xpert_mobile.lowering import Method

Defined = tuple[dict[str, Method], dict[str, tuple[Tensor, ...]]]
"""Methods with example inputs, and what torch gives for these."""

N_BEFORE = 64
"""Rows of an example's block before the one at hand."""


def head_methods(g: Geometry, batch: int, length: int, block: int, random: torch.Generator) -> Defined:
    """Define the head for a whole batch; what torch gives is the softmax over two blocks, the second one filled up.

    Parameters
    ----------
    g
        Sizes.
    batch, length
        Texts, and tokens of a text.
    block
        Rows of the output layer a run.
    random
        Draws the example inputs.
    """

    def scores(h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        return block_scores(g, h, norm, rows, bias, *sums)

    def pull(h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        return block_pull(g, h, norm, rows, bias, *sums)

    def loss(h: Tensor, norm: Tensor, own: Tensor, weight: Tensor, *sums: Tensor) -> tuple[Tensor, Tensor]:
        return loss_and_gradient(g, h, norm, own, weight, *sums)

    n_tokens, n_rows = batch * length, N_BEFORE + block
    h = torch.randn(batch, length, g.hidden, generator=random)
    norm = 1 + 0.1 * torch.randn(g.hidden, generator=random)
    output = torch.randn(n_rows, g.hidden, generator=random) * 0.05
    bias = torch.zeros(n_rows)
    bias[-block // 4 :] = MASKED
    target = torch.randint(0, n_rows - block // 4 - 1, (n_tokens,), generator=random)
    weight = torch.rand(n_tokens, 1, generator=random) / n_tokens
    with torch.enable_grad():
        hidden = h.clone().requires_grad_()
        normed = hidden * torch.rsqrt((hidden**2).mean(-1, keepdim=True) + g.norm_eps) * norm
        logits = linear(normed.view(n_tokens, -1), output, bias)
        value = (cross_entropy(logits, target, reduction="none") * weight[:, 0]).sum()
        (dh,) = torch.autograd.grad(value, hidden)
    logits = logits.detach()
    first, both = (_sums(logits[:, :n], output[:n]) for n in (N_BEFORE, n_rows))
    this = (h, norm, output[N_BEFORE:].clone(), bias[N_BEFORE:].clone())
    methods: dict[str, Method] = {
        "scores": (scores, (*this, *first[:2])),
        "pull": (pull, (*this, *first)),
        "loss": (loss, (h, norm, output[target], weight, *both)),
    }
    return methods, {"scores": both[:2], "pull": both, "loss": (value, dh)}


def _sums(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return every token's largest logit, the sum of exponentials below it, and the rows' sum by these."""
    maximum = logits.amax(-1, keepdim=True)
    exponentials = torch.exp(logits - maximum)
    return maximum, exponentials.sum(-1, keepdim=True), exponentials @ rows
