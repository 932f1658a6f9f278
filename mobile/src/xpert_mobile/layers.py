"""One decoder layer with LoRA, forward and backward, written in the operations that ExecuTorch delegates well.

Weights and adapter are inputs, so that one program serves every layer, every adapter and every merge, and the base stays
mapped from its file. The forward pass has two halves: `inner` computes what the backward pass needs, `outer` the layer's output
from it. Who runs the layer keeps what `inner` gave, or runs it once more before the backward pass (gradient checkpointing); the
gradients are the same to the bit. The backward pass is written out by hand: traced autograd gives chains of views and
permutations that stay outside the delegate. Exports are checked against torch's autograd.

Shapes: B texts, S tokens, P places before them, H hidden, N heads, K key-value heads, G = N / K, D head size, I intermediate,
r rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.ao.quantization.fx._decomposed  # registers the conversion that the delegate takes
from torch import Tensor
from torch.nn.functional import linear

from xpert_mobile.geometry import PROJECTIONS, SCALED, SHOWN, TRANSPOSED, Geometry, module_of


class _Attention(NamedTuple):
    keys: Tensor
    values: Tensor
    probability: Tensor
    o: Tensor


@dataclass(frozen=True)
class Lora:
    """A projection with its adapter: y = W x + scale B (A x) [+ bias].

    ``transposed`` is W stored a second time, (n_inputs, n_outputs), as the backward pass takes it.
    """

    W: Tensor
    A: Tensor
    B: Tensor
    scale: Tensor
    bias: Tensor | None = None
    transposed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return y for x (..., n_inputs)."""
        y = product(x, self.W) + linear(linear(x, self.A), self.B) * self.scale
        # Added by itself: the delegate takes no product whose bias is an input, and what it leaves runs ten times slower.
        return y if self.bias is None else y + self.bias

    def backward(self, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, A and B; x (..., n_inputs), dy (..., n_outputs)."""
        flat, grad = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]) * self.scale
        through = torch.mm(grad, self.B)
        base = product_backward(dy, self.W) if self.transposed is None else product(dy, self.transposed)
        dx = base + torch.mm(through, self.A).view(x.shape)
        return dx, torch.mm(through.t(), flat), torch.mm(grad.t(), linear(flat, self.A))


class DecoderLayer:
    """The math of one layer for given inputs.

    Parameters
    ----------
    geometry
        Sizes.
    weights
        Name -> weight or scale, as `layer_weights` lists them.
    lora
        A and B of every projection, in the order of `PROJECTIONS`.
    scale
        Of all adapters, shape (1,).
    cos, sin
        Rotary tables for the positions at hand, shape (S, D).
    prefix
        Keys and values (K, P, D) from before the tokens at hand: a cache, or what prefix tuning learns; empty: none, P = 0.
    """

    def __init__(
        self,
        geometry: Geometry,
        weights: Mapping[str, Tensor],
        lora: Sequence[Tensor],
        scale: Tensor,
        cos: Tensor,
        sin: Tensor,
        prefix: Sequence[Tensor] = (),
    ) -> None:
        self.g = geometry
        self.norm_in, self.norm_mlp = weights["input_layernorm.weight"], weights["post_attention_layernorm.weight"]
        self.p = {}
        for name, A, B in zip(PROJECTIONS, lora[0::2], lora[1::2], strict=True):
            module = module_of(name)
            scales, transposed = weights.get(f"{module}.{SCALED}"), weights.get(f"{module}.{TRANSPOSED}")
            W = as_float(weights[f"{module}.weight"], scales)
            if transposed is not None:
                transposed = as_float(transposed, None if scales is None else scales.view(1, -1))
            self.p[name] = Lora(W, A, B, scale, weights.get(f"{module}.bias"), transposed)
        self.cos, self.sin, self.prefix = cos, sin, prefix
        self.groups = geometry.n_heads // geometry.n_kv_heads

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer on x (B, S, H) under an additive mask (S, P + S); returns y, and x's keys and values (B K, S, D)."""
        kept = self.inner(x, mask)
        return self.outer(*kept[SHOWN:]), kept[1], kept[2]

    def inner(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return what `outer` and `backward` need of x (B, S, H) under an additive mask (S, P + S).

        These are all products of the forward pass but the last one: rotated queries (B K, G S, D), rotated keys and values
        (B K, S, D) each, the attention's result added to x (B, S, H), and what gate and up gave (B, S, I) each.
        """
        batch, length, _ = x.shape
        n, _ = rms_norm(x, self.norm_in, self.g.norm_eps)
        q = self._grouped(self._rotate(self._heads(self.p["q_proj"](n), self.g.n_heads)))
        k = self._rotate(self._heads(self.p["k_proj"](n), self.g.n_kv_heads)).reshape(-1, length, self.g.head_dim)
        v = self._heads(self.p["v_proj"](n), self.g.n_kv_heads).reshape(-1, length, self.g.head_dim)
        h = x + self.p["o_proj"](self._attention(q, k, v, mask, batch).o)
        n, _ = rms_norm(h, self.norm_mlp, self.g.norm_eps)
        return q, k, v, h, self.p["gate_proj"](n), self.p["up_proj"](n)

    def outer(self, h: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        """Return y (B, S, H) from the last three of what `inner` gave."""
        return h + self.p["down_proj"](gate * torch.sigmoid(gate) * up)

    def backward(self, x: Tensor, dy: Tensor, mask: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradient of x and those of what is trained; kept is what `inner` gave.

        What is trained is the prefix where there is one, else all A and B in the order of `PROJECTIONS`.
        """
        q, k, v, h, gate, up = kept
        p = self.p
        grads: dict[str, Sequence[Tensor]] = {}
        n, r = rms_norm(h, self.norm_mlp, self.g.norm_eps)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        da, *grads["down_proj"] = p["down_proj"].backward(silu * up, dy)
        dgate = da * up * (sigmoid + silu * (1.0 - sigmoid))
        dn, *grads["gate_proj"] = p["gate_proj"].backward(n, dgate)
        dn_up, *grads["up_proj"] = p["up_proj"].backward(n, da * silu)
        dh = dy + rms_norm_backward(h, r, self.norm_mlp, dn + dn_up)
        attention = self._attention(q, k, v, mask, x.shape[0])
        do, *grads["o_proj"] = p["o_proj"].backward(attention.o, dh)
        dx = dh + self._attention_backward(x, q, attention, do, grads)
        trained = ["prefix"] if self.prefix else PROJECTIONS
        return (dx, *(part for name in trained for part in grads[name]))

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, batch: int) -> _Attention:
        g, length = self.g, k.shape[1]
        keys, values = (self._behind_prefix(i, own, batch) for i, own in enumerate((k, v)))
        places = keys.shape[1]
        scores = torch.bmm(q, keys.transpose(1, 2)) * g.head_dim**-0.5
        masked = scores.view(-1, self.groups, length, places) + mask
        probability = torch.softmax(masked, -1).view(-1, self.groups * length, places)
        return _Attention(keys, values, probability, self._joined(self._ungrouped(torch.bmm(probability, values), batch)))

    def _attention_backward(
        self, x: Tensor, q: Tensor, attention: _Attention, do: Tensor, grads: dict[str, Sequence[Tensor]]
    ) -> Tensor:
        g, p, (batch, length, _) = self.g, self.p, x.shape
        dmixed = self._grouped(self._heads(do, g.n_heads))
        probability = attention.probability
        dv = torch.bmm(probability.transpose(1, 2), dmixed)
        dprobability = torch.bmm(dmixed, attention.values.transpose(1, 2))
        dscores = probability * (dprobability - row_sum(dprobability * probability)) * g.head_dim**-0.5
        dq = self._rotate_backward(self._ungrouped(torch.bmm(dscores, attention.keys), batch))
        dk = torch.bmm(dscores.transpose(1, 2), q)
        if self.prefix:
            n_places = self.prefix[0].shape[1]
            # One prefix for all texts of a batch.
            shape = (batch, g.n_kv_heads, n_places, g.head_dim)
            grads["prefix"] = [part[:, :n_places].reshape(shape).sum(0) for part in (dk, dv)]
            dk, dv = dk[:, n_places:], dv[:, n_places:]
        own = (batch, g.n_kv_heads, length, g.head_dim)
        dk, dv = self._rotate_backward(dk.reshape(own)), dv.reshape(own)
        n, r = rms_norm(x, self.norm_in, g.norm_eps)
        dn, *grads["q_proj"] = p["q_proj"].backward(n, self._joined(dq))
        dn_k, *grads["k_proj"] = p["k_proj"].backward(n, self._joined(dk))
        dn_v, *grads["v_proj"] = p["v_proj"].backward(n, self._joined(dv))
        return rms_norm_backward(x, r, self.norm_in, dn + dn_k + dn_v)

    def _behind_prefix(self, which: int, rows: Tensor, batch: int) -> Tensor:
        """Put the prefix's keys (0) or values (1) in front of the tokens' own (B K, S, D)."""
        if not self.prefix:
            return rows
        before = self.prefix[which]
        return torch.cat([torch.cat([before] * batch) if batch > 1 else before, rows], 1)

    def _heads(self, x: Tensor, n_heads: int) -> Tensor:
        """(B, S, n D) -> (B, n, S, D)."""
        return x.view(x.shape[0], x.shape[1], n_heads, self.g.head_dim).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        """(B, n, S, D) -> (B, S, n D)."""
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)

    def _grouped(self, x: Tensor) -> Tensor:
        """(B, N, S, D) -> (B K, G S, D): query heads that share keys stand one below the other."""
        return x.reshape(-1, self.groups * x.shape[2], self.g.head_dim)

    def _ungrouped(self, x: Tensor, batch: int) -> Tensor:
        """(B K, G S, D) -> (B, N, S, D)."""
        return x.view(batch, self.g.n_heads, -1, self.g.head_dim)

    def _rotate(self, x: Tensor) -> Tensor:
        half = self.g.head_dim // 2
        return x * self.cos + torch.cat([-x[..., half:], x[..., :half]], -1) * self.sin

    def _rotate_backward(self, dy: Tensor) -> Tensor:
        half = self.g.head_dim // 2
        turned = dy * self.sin
        return dy * self.cos + torch.cat([turned[..., half:], -turned[..., :half]], -1)


def product(x: Tensor, W: Tensor) -> Tensor:
    """Return W x for x (..., n_inputs).

    The delegate packs its second factor anew every run: that should be the smaller one. The result is then turned over.
    """
    flat = x.reshape(-1, x.shape[-1])
    rows, (n_outputs, n_inputs) = flat.shape[0], W.shape
    if rows * (n_inputs + n_outputs) >= n_inputs * n_outputs:
        return linear(x, W)
    y = linear(W, flat)
    return (y if rows == 1 else y.t().contiguous()).view(*x.shape[:-1], n_outputs)


def product_backward(dy: Tensor, W: Tensor) -> Tensor:
    """Return the gradient of x from that of W x, dy (..., n_outputs); what is packed is the smaller factor here too."""
    flat = dy.reshape(-1, dy.shape[-1])
    rows, (n_outputs, n_inputs) = flat.shape[0], W.shape
    if rows * (n_inputs + n_outputs) >= n_inputs * n_outputs:
        dx = torch.mm(flat, W)
    else:
        dx = torch.mm(W.t(), flat.t()).t().contiguous()
    return dx.view(*dy.shape[:-1], n_inputs)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x over its root mean square times ``weight``, and the inverse of that root."""
    r = torch.rsqrt(row_sum(x * x) * (1.0 / x.shape[-1]) + eps)
    return x * r * weight, r


def rms_norm_backward(x: Tensor, r: Tensor, weight: Tensor, dy: Tensor) -> Tensor:
    """Return the gradient of x; r is the inverse root that `rms_norm` gave."""
    dx = dy * weight
    return r * (dx - x * (r * r * row_sum(dx * x) * (1.0 / x.shape[-1])))


def row_sum(x: Tensor) -> Tensor:
    """Sum over the last dimension, kept; as a product with ones, which the delegate takes."""
    return linear(x, _ones(x.shape[-1]))


@cache
def _ones(n: int) -> Tensor:
    """Keep one tensor a width, so that exports hold it as a constant; made by a run before the export."""
    return torch.ones(1, n)


def next_token_logits(geometry: Geometry, h: Tensor, norm: Tensor, output: Tensor) -> Tensor:
    """Return the logits (1, vocabulary) after hidden states h (1, 1, H)."""
    n, _ = rms_norm(h, norm, geometry.norm_eps)
    return product(n.view(1, geometry.hidden), output)


def block_scores(
    geometry: Geometry, h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, maximum: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Add a block of the vocabulary to every token's largest logit and sum of exponentials.

    Parameters
    ----------
    geometry
        Sizes.
    h
        Output of the last layer, shape (B, S, H).
    norm, rows, bias
        Weights of the final norm, rows of the output layer (block, H), and what is added to their logits (block,).
    maximum, total
        What the blocks before gave, (B S, 1) each: the largest logit, and the sum of the exponentials of the logits less that.
    """
    maximum, _, _, total = _with_block(geometry, h, norm, rows, bias, maximum, total)
    return maximum, total


def block_pull(
    geometry: Geometry,
    h: Tensor,
    norm: Tensor,
    rows: Tensor,
    bias: Tensor,
    maximum: Tensor,
    total: Tensor,
    pulled: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add a block to what `block_scores` keeps and to ``pulled`` (B S, H), the rows' sum by their exponentials.

    All of it is scaled anew where a block has a larger logit, as softmax by blocks is done in attention: one pass over the output
    layer gives loss and gradient, and the logits of a whole vocabulary are never there (Milakov and Gimelshein 2018,
    arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).
    """
    maximum, exponentials, kept, total = _with_block(geometry, h, norm, rows, bias, maximum, total)
    return maximum, total, pulled * kept + product_backward(exponentials, rows)


def loss_and_gradient(
    geometry: Geometry,
    h: Tensor,
    norm: Tensor,
    own: Tensor,
    weight: Tensor,
    maximum: Tensor,
    total: Tensor,
    pulled: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the weighted cross-entropy of the final hidden states (B, S, H) and its gradient.

    ``own`` (B S, H) are the output layer's rows of the next tokens, ``weight`` (B S, 1) every token's in the loss, adding up to
    1; the others are what all blocks together gave.
    """
    n, r = rms_norm(h, norm, geometry.norm_eps)
    surprise = maximum + torch.log(total) - row_sum(n.view(-1, geometry.hidden) * own)
    dn = (pulled / total - own) * weight
    return (surprise * weight).sum(), rms_norm_backward(h, r, norm, dn.view(h.shape))


def _with_block(
    geometry: Geometry, h: Tensor, norm: Tensor, rows: Tensor, bias: Tensor, maximum: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the new maximum, a block's exponentials below it, the share that earlier sums keep, and the new total."""
    n, _ = rms_norm(h, norm, geometry.norm_eps)
    logits = product(n.view(-1, geometry.hidden), rows) + bias
    found = torch.maximum(maximum, torch.amax(logits, -1, keepdim=True))
    exponentials, kept = torch.exp(logits - found), torch.exp(maximum - found)
    return found, exponentials, kept, total * kept + row_sum(exponentials)


def as_float(weight: Tensor, scale: Tensor | None) -> Tensor:
    """Return int8 weights times their scales, a row's (n_outputs, 1) or a column's (1, n_outputs); without scales as they are.

    Written so that the delegate takes it: a float copy of the weights never stands in the program's memory. Scaling the products
    instead would be less work, but the delegate takes no conversion right in front of a product.
    """
    if scale is None:
        return weight
    converted: Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor.default(weight, 1.0, 0, -128, 127, torch.int8)
    return converted * scale
