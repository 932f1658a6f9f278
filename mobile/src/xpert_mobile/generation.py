"""Greedy generation layer by layer, with the cache of keys and values owned by the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import InputError
from xpert_mobile.adapter_state import AdapterState
from xpert_mobile.engine import Program
from xpert_mobile.geometry import CHUNK, MASKED, Geometry
from xpert_mobile.head import Head
from xpert_mobile.rotary import rotary_tables
from xpert_mobile.weights import BaseWeights

Array = NDArray[np.float32]
Caches = list[tuple[Array, Array]]


class Generator:
    """Answers prompts with a base and an adapter.

    Parameters
    ----------
    base
        The mapped weights.
    geometry
        Sizes.
    program
        As of `xpert_mobile.export.generation_program`, with a batch of 1.
    length
        The program's length: most tokens of prompt and answer together.
    vocabulary_block
        Rows of the output layer that its head takes a run.
    """

    def __init__(self, base: BaseWeights, geometry: Geometry, program: Program, *, length: int, vocabulary_block: int) -> None:
        self.base, self.geometry, self.program, self.length = base, geometry, program, length
        self.head = Head(program, base, block=vocabulary_block)
        self.chunk = min(CHUNK, length)
        self.cos, self.sin = rotary_tables(geometry, length + self.chunk)

    def answer(self, prompt: Sequence[int], state: AdapterState, *, end: int, max_new_tokens: int) -> list[int]:
        """Return the ids of the likeliest answer, its end left out.

        Raises
        ------
        InputError
            The prompt leaves no room for an answer.
        """
        if len(prompt) >= self.length:
            raise InputError(
                f"The prompt has {len(prompt)} tokens, at most {self.length - 1} leave room for an answer. Shorten it."
            )
        caches = self.caches()
        h = self.read(prompt, 0, caches, state)
        made: list[int] = []
        for place in range(len(prompt), min(self.length, len(prompt) + max_new_tokens)):
            token = int(self.head.logits(h).argmax())
            if token == end:
                break
            made.append(token)
            h = self.read([token], place, caches, state)
        return made

    def caches(self) -> Caches:
        """Return room for the keys and values of every layer, (n_kv_heads, length, head_dim) each."""
        shape = (self.geometry.n_kv_heads, self.length, self.geometry.head_dim)
        return [(np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(self.geometry.n_layers)]

    def read(self, ids: Sequence[int], begin: int, caches: Caches, state: AdapterState) -> Array:
        """Read tokens that take the places from ``begin`` on; returns the last one's hidden states (1, 1, hidden)."""
        x: Array = self.base.embedding[np.array(ids)]
        method, step = ("decode", 1) if len(ids) == 1 else ("read", self.chunk)
        for weights, lora, cache in zip(self.base.layers, state.layers, caches, strict=True):
            for first in range(0, len(ids), step):
                n, place = min(step, len(ids) - first), begin + first
                rows = np.zeros((1, step, x.shape[1]), np.float32)
                rows[0, :n] = x[first : first + n]
                at = slice(place, place + step)
                context = (self._mask(place, step), self.cos[at], self.sin[at])
                y, *own = self.program.run(method, [rows, *context, state.scale, *weights, *lora, *cache])
                x[first : first + n] = y[0, :n]
                for kept, new in zip(cache, own, strict=True):
                    kept[:, place : place + n] = new[:, :n]
        return x[-1:].reshape(1, 1, -1)

    def _mask(self, place: int, n: int) -> Array:
        """Open the cache up to ``place``, and each of the n tokens to those before it."""
        mask = np.triu(np.full((n, self.length + n), MASKED, np.float32), self.length + 1)
        mask[:, place : self.length] = MASKED
        return mask
