"""Personal texts as what a training step takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xpert.core.errors import InputError
from xpert.core.texts import PersonalText
from xpert_mobile.geometry import Geometry
from xpert_mobile.tokens import ChatTokenizer

STEP = 32
"""Lengths are rounded up to a multiple of this, so that few programs serve all texts."""

MAX_LENGTH = 512


@dataclass(frozen=True)
class Sample:
    """One text as ids; the first ``n_prompt`` of them are the prompt, which the loss leaves out."""

    ids: tuple[int, ...]
    n_prompt: int


def encode_texts(folder: Path, texts: Sequence[PersonalText], geometry: Geometry) -> list[Sample]:
    """Turn personal texts into ids; a text without a prompt answers an open one.

    Raises
    ------
    InputError
        There are none, or a prompt leaves no room for its text.
    """
    if not texts:
        raise InputError("There are no texts to fine-tune on. Give at least one, better 20 or more.")
    tokens = ChatTokenizer(folder, n_tokens=geometry.vocabulary)
    limit = min(MAX_LENGTH, geometry.context)
    samples = []
    for i, text in enumerate(texts, 1):
        prompt, answer = tokens.prompt_ids(text.prompt), tokens.answer_ids(text.text)
        if len(prompt) >= limit:
            raise InputError(f"The prompt of text {i} has {len(prompt)} tokens, at most {limit - 1} leave room. Shorten it.")
        samples.append(Sample(tuple((prompt + answer)[:limit]), len(prompt)))
    return samples


def rounded(length: int) -> int:
    """Round a length up to the next size that programs are made for."""
    return -(-length // STEP) * STEP
