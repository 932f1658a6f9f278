"""Prompts and answers as token ids: one way for probing, fine-tuning and the device."""

from __future__ import annotations

from typing import Any

OPEN_PROMPT = "Write something."
"""Stands in for the prompt of a text that has none."""


def prompt_ids(tokenizer: Any, prompt: str | None) -> list[int]:
    """Turn a prompt into the ids that the model answers: by the tokenizer's chat template, else as a line of its own."""
    asked = prompt or OPEN_PROMPT
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        return list(ids)
    return list(tokenizer(f"{asked}\n")["input_ids"])


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """Turn an answer into ids that close with the end-of-text token."""
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
