"""The texts that come with the package: StyleBank, style exemplars, graded levels and example users."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

TRAIN_PROMPTS = frozenset(f"b{i:03d}" for i in range(1, 121))
"""StyleBank prompts that axes and starter adapters are made from."""

PROBE_PROMPTS = frozenset(f"b{i:03d}" for i in range(121, 161))
"""StyleBank prompts kept for probing: neither axes nor starter adapters have seen them."""


@dataclass(frozen=True)
class StyledText:
    """One answer in one style.

    Attributes
    ----------
    id
        Ties the answers to one prompt together.
    prompt
        The question.
    style
        The style's word, ``neutral`` for none.
    text
        The answer.
    """

    id: str
    prompt: str
    style: str
    text: str


@dataclass(frozen=True)
class UserText:
    """One personal text of an example user."""

    user: str
    prompt: str
    text: str


@cache
def stylebank() -> tuple[StyledText, ...]:
    """Return 160 prompts answered in 13 styles (2,080 texts)."""
    return _styled("stylebank.jsonl")


@cache
def exemplars() -> tuple[StyledText, ...]:
    """Return 24 prompts answered in neutral and 24 styles (600 texts)."""
    return _styled("style-exemplars.jsonl")


@cache
def levels() -> tuple[StyledText, ...]:
    """Return 24 prompts answered at four levels of expertise and of formality; the style reads ``expertise-1``."""
    return tuple(StyledText(r["id"], r["prompt"], f"{r['scale']}-{r['level']}", r["text"]) for r in _rows("style-levels.jsonl"))


@cache
def users() -> tuple[UserText, ...]:
    """Return 10 example users with 60 personal texts each; nothing is trained on them."""
    return tuple(UserText(r["user"], r["prompt"], r["text"]) for r in _rows("users.jsonl"))


def axis_texts() -> list[StyledText]:
    """Return the texts that the default space's axes are made from: the exemplars, and StyleBank without the probes."""
    return [*exemplars(), *(text for text in stylebank() if text.id in TRAIN_PROMPTS)]


def probes() -> tuple[str, ...]:
    """Return the 40 default probes: prompts that neither axes nor starter adapters have seen."""
    return tuple(t.prompt for t in stylebank() if t.style == "neutral" and t.id in PROBE_PROMPTS)


def _styled(name: str) -> tuple[StyledText, ...]:
    return tuple(StyledText(r["id"], r["prompt"], r["style"], r["text"]) for r in _rows(name))


def _rows(name: str) -> list[dict[str, Any]]:
    text = files("xpert").joinpath("data", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
