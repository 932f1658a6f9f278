"""Greedy generation layer by layer, with the cache of keys and values owned by the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import InputError
from xpert_mobile.adapter_state import AdapterState
from xpert_mobile.engine import Program
from xpert_mobile.geometry import Geometry
from xpert_mobile.head import Head
from xpert_mobile.rotary import context_tables
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
        Rows of the output layer that its head takes a run; None: all of them.
    """

    def __init__(
        self, base: BaseWeights, geometry: Geometry, program: Program, *, length: int, vocabulary_block: int | None = None
    ) -> None:
        self.base, self.geometry, self.program, self.length = base, geometry, program, length
        self.head = Head(program, base, block=vocabulary_block)
        self.tables = context_tables(geometry, length)

    def answer(self, prompt: Sequence[int], state: AdapterState, *, end: int, max_new_tokens: int) -> list[int]:
        """Return the ids of the likeliest answer, its end left out.

        Raises
        ------
        InputError
            The prompt leaves no room for an answer.
        """
        h, caches = self.prefill(prompt, state)
        made: list[int] = []
        for place in range(len(prompt), min(self.length, len(prompt) + max_new_tokens)):
            token = int(self.head.logits(h).argmax())
            if token == end:
                break
            made.append(token)
            h = self.decode(token, place, caches, state)
        return made

    def prefill(self, prompt: Sequence[int], state: AdapterState) -> tuple[Array, Caches]:
        """Read a prompt; returns the last token's hidden states (1, 1, hidden) and the keys and values of every layer.

        Raises
        ------
        InputError
            The prompt leaves no room for an answer.
        """
        n = len(prompt)
        if n >= self.length:
            raise InputError(f"The prompt has {n} tokens, at most {self.length - 1} leave room for an answer. Shorten it.")
        ids = np.zeros((1, self.length), np.int64)
        ids[0, :n] = prompt
        x = self.base.embedding[ids]
        caches = []
        for weights, lora in zip(self.base.layers, state.layers, strict=True):
            x, keys, values = self.program.run("prefill", [x, *self.tables, state.scale, *weights, *lora])
            keys[:, n:], values[:, n:] = 0, 0
            caches.append((keys, values))
        return np.ascontiguousarray(x[:, n - 1 : n]), caches

    def decode(self, token: int, place: int, caches: Caches, state: AdapterState) -> Array:
        """Read one more token, which takes its ``place`` in the caches; returns its hidden states (1, 1, hidden)."""
        mask, cos, sin = (table[place : place + 1] for table in self.tables)
        at = (np.arange(self.length) == place).astype(np.float32)[:, None]
        h: Array = self.base.embedding[np.array([[token]])]
        for weights, lora, (keys, values) in zip(self.base.layers, state.layers, caches, strict=True):
            h, key, value = self.program.run("decode", [h, mask, at, cos, sin, keys, values, state.scale, *weights, *lora])
            keys[:, place : place + 1], values[:, place : place + 1] = key, value
        return h
