"""The starter models' chat format: a system slot first, so that what it holds does not depend on the prompt.

Causal attention reads `<|system|>…` before it has seen the prompt. A style told there gives the same keys and values for every
prompt, and an adapter that makes the empty slot look like a told one carries its style to prompts it never saw.
"""

from __future__ import annotations

from xpert.core.data import StyledText

END, USER, ASSISTANT, SYSTEM = "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"

TEMPLATE = (
    "<|system|>{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

WORDINGS = ("Answer in a {} style.", "Be {}.", "Style: {}.", "Write {} answers.", "You are {}.")
"""Ways of telling the base a style."""


def told(prompt: str, style: str, wording: str = WORDINGS[0]) -> str:
    """Write out a prompt whose style is told."""
    return f"{SYSTEM}{wording.format(style)}{USER}{prompt}{ASSISTANT}"


def untold(prompt: str) -> str:
    """Write out a prompt whose style is left open, as the chat template does."""
    return f"{SYSTEM}{USER}{prompt}{ASSISTANT}"


def answered(item: StyledText) -> str:
    """Write out an item's answer with its end."""
    return item.text + END
