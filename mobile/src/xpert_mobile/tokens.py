"""Prompts and answers as token ids without transformers: the tokenizer's own files and its chat template."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_bytes
from xpert.models.prompting import OPEN_PROMPT


class ChatTokenizer:
    """Turns prompts and answers into ids, as `xpert.models.prompting` does with transformers.

    Parameters
    ----------
    folder
        Folder of the model: ``tokenizer.json``, ``tokenizer_config.json``, perhaps ``chat_template.jinja``.

    Raises
    ------
    FileFormatError
        A file is missing or broken.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(read_bytes(folder / "tokenizer.json").decode())
            config: dict[str, Any] = json.loads(read_bytes(folder / "tokenizer_config.json"))
            own = folder / "chat_template.jinja"
            template = read_bytes(own).decode() if own.exists() else config.get("chat_template")
            specials = {key: _token(config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
            self._specials = {key: value for key, value in specials.items() if value}
            end = self._tokenizer.token_to_id(self._specials.get("eos_token", ""))
            self._template = _environment().from_string(template) if isinstance(template, str) else None
        except FileFormatError:
            raise
        except Exception as error:  # the tokenizers library raises bare exceptions
            raise FileFormatError(f"Cannot read the tokenizer of '{folder}': {error}. Fetch the model again.") from error
        if end is None:
            raise FileFormatError(f"The tokenizer of '{folder}' has no end-of-text token. Set eos_token.")
        self.end = int(end)

    def prompt_ids(self, prompt: str | None) -> list[int]:
        """Turn a prompt into the ids that the model answers."""
        asked = prompt or OPEN_PROMPT
        if self._template is None:
            return list(self._tokenizer.encode(f"{asked}\n").ids)
        try:
            text = self._template.render(
                messages=[{"role": "user", "content": asked}], add_generation_prompt=True, **self._specials
            )
        except TemplateError as error:
            raise InputError(f"The chat template cannot write out the prompt '{asked[:40]}': {error}.") from error
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def answer_ids(self, answer: str) -> list[int]:
        """Turn an answer into ids that close with the end-of-text token."""
        return [*self._tokenizer.encode(answer, add_special_tokens=False).ids, self.end]

    def decode(self, ids: list[int]) -> str:
        """Turn ids into text, special tokens left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _token(value: Any) -> str:
    return value.get("content", "") if isinstance(value, dict) else value or ""


def _environment() -> ImmutableSandboxedEnvironment:
    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment
