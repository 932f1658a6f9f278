"""Prompts and answers as token ids without transformers: the tokenizer's own files and its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from xpert.core.errors import FileFormatError, InputError, MismatchError
from xpert.core.files import read_bytes
from xpert.models.panics import panics_as_errors
from xpert.models.prompting import OPEN_PROMPT


class ChatTokenizer:
    """Turns prompts and answers into ids, as `xpert.models.prompting` does with transformers.

    Parameters
    ----------
    folder
        Folder of the model: ``tokenizer.json``, ``tokenizer_config.json``, perhaps ``chat_template.jinja``.
    n_tokens
        The model's vocabulary: what the tokenizer may give.

    Attributes
    ----------
    template
        Source of the chat template, if the model has one.
    specials
        Special tokens by the names that templates use: ``bos_token``, ``eos_token``.
    end
        The token that ends an answer.

    Raises
    ------
    NotFoundError
        A file is missing.
    FileFormatError
        A file is broken, or names no end-of-text token.
    """

    def __init__(self, folder: Path, *, n_tokens: int) -> None:
        self._folder, self._n_tokens = folder, n_tokens
        self._tokenizer = read_tokenizer(folder)
        data, own = read_bytes(folder / "tokenizer_config.json"), folder / "chat_template.jinja"
        try:
            config: dict[str, Any] = json.loads(data)
            template = own.read_bytes().decode() if own.exists() else config.get("chat_template")
            specials = {key: _token(config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
            self.template: str | None = template if isinstance(template, str) else None
            self._template = _environment().from_string(self.template) if self.template is not None else None
        except Exception as error:  # compiling a template may raise any error
            raise _broken(folder, error) from error
        self.specials = {key: value for key, value in specials.items() if value}
        end = self._tokenizer.token_to_id(self.specials.get("eos_token", ""))
        if end is None:
            raise FileFormatError(f"The tokenizer of '{folder}' has no end-of-text token. Set eos_token.")
        self.end = int(end)

    def prompt_ids(self, prompt: str | None) -> list[int]:
        """Turn a prompt into the ids that the model answers, at least one.

        Raises
        ------
        InputError
            The chat template fails, or nothing is left of the prompt.
        MismatchError
            The tokenizer has more tokens than the model.
        """
        asked = prompt or OPEN_PROMPT
        if self._template is None:
            ids = self._encode(f"{asked}\n", special=True)
        else:
            ids = self._encode(self._written(self._template, asked))
        if not ids:
            raise InputError(
                f"The tokenizer of '{self._folder}' turns the prompt '{asked[:40]}' into no token. Change the prompt."
            )
        return ids

    def answer_ids(self, answer: str) -> list[int]:
        """Turn an answer into ids that close with the end-of-text token."""
        return [*self._encode(answer), self.end]

    def decode(self, ids: list[int]) -> str:
        """Turn ids into text, special tokens left out."""
        with _reading(self._folder):
            return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _written(self, template: Template, asked: str) -> str:
        """Write a prompt out by the chat template."""
        try:
            return template.render(messages=[{"role": "user", "content": asked}], add_generation_prompt=True, **self.specials)
        except Exception as error:  # a template is a program: any error may come out of it
            raise InputError(
                f"The chat template of '{self._folder}' cannot write out the prompt '{asked[:40]}': {error}. Check the template."
            ) from error

    def _encode(self, text: str, *, special: bool = False) -> list[int]:
        with _reading(self._folder):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        largest = max([self.end, *ids])
        if largest >= self._n_tokens:
            raise MismatchError(
                f"The tokenizer of '{self._folder}' gives the token {largest}, its model has {self._n_tokens} of them. Fetch "
                "both again."
            )
        return ids


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read ``tokenizer.json``.

    Raises
    ------
    NotFoundError
        There is none.
    FileFormatError
        It is broken.
    """
    data = read_bytes(folder / "tokenizer.json")
    with _reading(folder):
        return Tokenizer.from_str(data.decode())


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Say of whatever the library raises that the tokenizer is broken: it raises bare exceptions, and panics."""
    try:
        with panics_as_errors():
            yield
    except Exception as error:
        raise _broken(folder, error) from error


def _broken(folder: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"Cannot read the tokenizer of '{folder}': {error}. Fetch the model again.")


def _token(value: Any) -> str:
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else ""


def _environment() -> ImmutableSandboxedEnvironment:
    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment
