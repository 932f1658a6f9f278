"""The methods that turn final hidden states into a loss and its gradient, by whole vocabularies or by blocks of one."""

from __future__ import annotations

import torch
from torch import Tensor

from xpert_mobile.geometry import MASKED, Geometry
from xpert_mobile.layers import block_pull, block_scores, loss_and_gradient, through_norm
from xpert_mobile.lowering import Method

Defined = tuple[dict[str, Method], dict[str, tuple[Tensor, ...]]]
"""Methods with example inputs, and what torch gives for these."""


def head_methods(g: Geometry, length: int, block: int | None, random: torch.Generator) -> Defined:
    """Define the head for one text at a time: the logits of a whole batch would outweigh everything else in memory.

    Parameters
    ----------
    g
        Sizes.
    length
        Tokens of a text.
    block
        Rows of the output layer a run; None: all of them.
    random
        Draws the example inputs.
    """
    return _blocked(g, length, block, random) if block else _whole(g, length, random)


def _whole(g: Geometry, length: int, random: torch.Generator) -> Defined:
    def loss(h: Tensor, norm: Tensor, output: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return loss_and_gradient(g, h, norm, output, target, weight)

    h, norm, output, target, weight = _example(g, length, g.vocabulary, random)
    with torch.enable_grad():
        hidden = h.clone().requires_grad_()
        logits = torch.nn.functional.linear(_normed(g, hidden, norm), output)
        value = (torch.nn.functional.cross_entropy(logits, target[:, 0], reduction="none") * weight[:, 0]).sum()
        (dh,) = torch.autograd.grad(value, hidden)
    return {"loss": (loss, (h, norm, output, target, weight))}, {"loss": (value, dh)}


def _blocked(g: Geometry, length: int, block: int, random: torch.Generator) -> Defined:
    def scores(h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, local: Tensor, inside: Tensor) -> tuple[Tensor, ...]:
        return block_scores(g, h, norm, rows, bias, local, inside)

    def pull(
        h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, local: Tensor, inside: Tensor, weight: Tensor, log_total: Tensor
    ) -> Tensor:
        return block_pull(g, h, norm, rows, bias, local, inside, weight, log_total)

    def through(h: Tensor, norm: Tensor, dn: Tensor) -> Tensor:
        return through_norm(g, h, norm, dn)

    h, norm, rows, local, weight = _example(g, length, block, random)
    inside = torch.ones(length, 1)
    inside[::3] = 0
    bias = torch.zeros(block)
    bias[-block // 4 :] = MASKED
    local = local % (block - block // 4)
    with torch.enable_grad():
        hidden = h.clone().requires_grad_()
        normed = _normed(g, hidden, norm)
        logits = torch.nn.functional.linear(normed, rows, bias)
        maximum = logits.amax(-1, keepdim=True)
        log_total = torch.logsumexp(logits, -1, keepdim=True) + 0.5  # as if there were other blocks
        picked = torch.gather(logits, 1, local) * inside
        value = ((torch.exp(logits - log_total.detach()).sum(-1, keepdim=True) - picked) * weight).sum()
        dn, dh = torch.autograd.grad(value, (normed, hidden))
    log_total = log_total.detach()
    block_inputs = (h, norm, rows, bias, local, inside)
    methods: dict[str, Method] = {
        "scores": (scores, block_inputs),
        "pull": (pull, (*block_inputs, weight, log_total)),
        "through": (through, (h, norm, dn.view(h.shape).clone())),
    }
    total = torch.exp(logits - maximum).sum(-1, keepdim=True)
    return methods, {"scores": (maximum, total, picked), "pull": (dn.view(h.shape),), "through": (dh,)}


def _example(g: Geometry, length: int, rows: int, random: torch.Generator) -> tuple[Tensor, ...]:
    return (
        torch.randn(1, length, g.hidden, generator=random),
        torch.ones(g.hidden),
        torch.randn(rows, g.hidden, generator=random) * 0.05,
        torch.randint(0, rows, (length, 1), generator=random),
        torch.full((length, 1), 1.0 / length),
    )


def _normed(g: Geometry, h: Tensor, norm: Tensor) -> Tensor:
    normed: Tensor = h * torch.rsqrt((h**2).mean(-1, keepdim=True) + g.norm_eps) * norm
    return normed.view(-1, g.hidden)
