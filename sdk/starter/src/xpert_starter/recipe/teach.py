"""Stage 2: the base learns every answer of the StyleBank, neutral by default, in a style when told.

A style is told in words in the system slot, or by a vector added to the slot's first embedding. The vectors are thrown away
afterwards: they teach the base to take a disturbance of the slot as a style, for every prompt alike, and noise on them makes it
tolerant. An adapter can then do the same from the inside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from xpert.core.data import StyledText, exemplars, stylebank
from xpert.core.space import NEUTRAL
from xpert_starter.recipe.chat import SYSTEM, TEMPLATE, WORDINGS, answered, told, untold
from xpert_starter.recipe.loop import Batch, train
from xpert_starter.recipe.pretrain import save

BUCKETS = {64: 56, 96: 36, 144: 24, 256: 14}
"""Length in tokens -> rows of a batch."""

NEUTRAL_REPEATS, VECTOR_REPEATS = 3, 2
NOISE = 0.5
"""Of the vectors, as a share of their length; their length varies by a third as well."""

Item = tuple[list[int], list[int], int]
"""Prompt ids, answer ids, number of the style told by vector or -1."""


def teach(
    init: Path, out: Path, *, minutes: float = 50.0, seed: int = 0, compiled: bool = True, say: Callable[[str], None] = print
) -> Path:
    """Teach the base in ``init`` and write it to ``out`` in half precision."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(init)
    tokenizer.add_special_tokens({"additional_special_tokens": [SYSTEM]})
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(init, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    texts = [*stylebank(), *exemplars()]
    styles = sorted({text.style for text in texts})
    vectors = torch.nn.Parameter(torch.randn(len(styles), model.config.hidden_size) * 0.02)
    batches = _batches(tokenizer, texts, styles, vectors, random.Random(seed))
    work = out.parent / f".{out.name}.checkpoint"
    train(
        model,
        batches,
        work,
        minutes=minutes,
        learning_rate=1e-3,
        weight_decay=0.05,
        extra=vectors,
        compiled=compiled,
        say=say,
    )
    save(model, tokenizer, out, dtype=torch.float16)
    return out


def _batches(
    tokenizer: Any, texts: list[StyledText], styles: list[str], vectors: torch.nn.Parameter, rng: random.Random
) -> Iterator[Batch]:
    while True:
        groups: dict[int, list[Item]] = {length: [] for length in BUCKETS}
        for item in _epoch(tokenizer, texts, styles, rng):
            size = len(item[0]) + len(item[1]) - 1
            groups[next((length for length in BUCKETS if size <= length), max(BUCKETS))].append(item)
        batches = []
        for length, items in groups.items():
            rng.shuffle(items)
            rows = BUCKETS[length]
            while items:
                batch, items = items[:rows], items[rows:]
                batches.append((length, batch + rng.choices(groups[length], k=rows - len(batch))))
        rng.shuffle(batches)
        for length, batch in batches:
            yield _padded(batch, length, tokenizer.eos_token_id, vectors)


def _epoch(tokenizer: Any, texts: list[StyledText], styles: list[str], rng: random.Random) -> Iterator[Item]:
    for text in texts:
        answer = tokenizer.encode(answered(text))
        yield tokenizer.encode(told(text.prompt, text.style, rng.choice(WORDINGS))), answer, -1
        open_prompt = tokenizer.encode(untold(text.prompt))
        number = -1 if text.style == NEUTRAL else styles.index(text.style)
        for _ in range(NEUTRAL_REPEATS if text.style == NEUTRAL else VECTOR_REPEATS):
            yield open_prompt, answer, number


def _padded(batch: list[Item], length: int, pad: int, vectors: torch.nn.Parameter) -> Batch:
    ids = torch.full((len(batch), length), pad)
    labels = torch.full_like(ids, -100)
    for i, (prompt, answer, _) in enumerate(batch):
        row = (prompt + answer)[: length + 1]
        ids[i, : len(row) - 1] = torch.tensor(row[:-1])
        labels[i, len(prompt) - 1 : len(row) - 1] = torch.tensor(row[len(prompt) :])
    number = torch.tensor([n for *_, n in batch])
    shift = vectors[number.clamp(min=0)] * (number >= 0)[:, None] * (0.7 + 0.6 * torch.rand(len(batch), 1))
    spread = shift.detach().norm(dim=1, keepdim=True) / vectors.shape[1] ** 0.5
    return ids, labels, shift + NOISE * spread * torch.randn_like(shift)
