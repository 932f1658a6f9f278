"""Personal texts and ready answer pairs: reading them from files, and saying what is wrong with them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError, InputError, MissingExtraError, NotFoundError
from xpert.core.files import read_bytes

MAX_TEXT = 100_000
"""Longest text that is read, in characters: style shows long before, and one file must not outweigh all others."""

MAX_PROBLEMS = 5
"""How many problems of one file are spelled out; the others are counted."""


@dataclass(frozen=True)
class PersonalText:
    """One text of the user.

    Attributes
    ----------
    text
        What the user wrote.
    prompt
        What it answers, if known.
    """

    text: str
    prompt: str | None = None


@dataclass(frozen=True)
class ResponsePair:
    """The answers of a base model and of a pLLM to one probe."""

    prompt: str
    base: str
    pllm: str


def read_texts(path: Path) -> list[PersonalText]:
    """Read personal texts from a file.

    Parameters
    ----------
    path
        ``.jsonl`` with lines ``{"text", "prompt"?}``, ``.txt`` with a text a line, ``.csv`` with a header that names
        ``text`` and perhaps ``prompt``, or ``.parquet`` with such columns.

    Raises
    ------
    InputError
        A record has no usable text; the message lists the first problems.
    FileFormatError
        The file is of another format than its name says.
    NotFoundError
        There is no such file.
    """
    path = Path(path)
    readers = {".jsonl": json_lines, ".txt": _lines, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FileFormatError(
            f"Cannot read texts from '{path}': its name ends in '{path.suffix}', expected one of {', '.join(readers)}."
        )
    texts: list[PersonalText] = []
    problems: list[str] = []
    for place, record in reader(path):
        text = record.get("text")
        prompt = record.get("prompt")
        if not isinstance(text, str) or not text.strip():
            problems.append(f"{place} has no text")
        elif len(text) > MAX_TEXT:
            problems.append(f"{place} has {len(text):,} characters, at most {MAX_TEXT:,} are read; split it")
        elif prompt is not None and not isinstance(prompt, str):
            problems.append(f"{place} has a prompt that is no text but {type(prompt).__name__}")
        else:
            texts.append(PersonalText(text.strip(), prompt.strip() or None if prompt else None))
    _report(path, problems)
    if not texts:
        raise InputError(f"'{path}' holds no texts. Give at least one, better 10 or more.")
    return texts


def read_pairs(path: Path) -> list[ResponsePair]:
    """Read ready answer pairs, lines of ``{"prompt", "base", "pllm"}``.

    Raises
    ------
    InputError
        A record lacks a part, or there is none; the message lists the first problems.
    FileFormatError
        The file is not JSON Lines.
    """
    pairs: list[ResponsePair] = []
    problems: list[str] = []
    for place, record in json_lines(Path(path)):
        parts = [record.get(key) for key in ("prompt", "base", "pllm")]
        wrong = [key for key, part in zip(("prompt", "base", "pllm"), parts, strict=True) if not isinstance(part, str)]
        if wrong:
            problems.append(f"{place} lacks text under {', '.join(wrong)}")
        else:
            pairs.append(ResponsePair(*(str(part) for part in parts)))
    _report(path, problems)
    if not pairs:
        raise InputError(f"'{path}' holds no answer pairs. Give one a line: " + '{"prompt": …, "base": …, "pllm": …}')
    return pairs


def warn_about(texts: Sequence[PersonalText]) -> list[str]:
    """List what makes a choice from ``texts`` unsure: few or very short texts, or another language than English."""
    warnings = []
    if len(texts) < 5:
        warnings.append(f"{len(texts)} texts are few; from 10 on the choice is reliable.")
    short = sum(len(t.text.split()) < 3 for t in texts)
    if short:
        warnings.append(f"{short} of {len(texts)} texts have fewer than three words and say little about style.")
    foreign = sum(not _looks_english(t.text) for t in texts)
    if foreign > len(texts) / 2:
        warnings.append(
            f"{foreign} of {len(texts)} texts do not look like English, which the default style space is made for; "
            "the choice may be wrong. Build a space from exemplars in that language: xpert space build."
        )
    return warnings


FUNCTION_WORDS = frozenset(
    "the a an of to and in is that it for you i we my this be are with as on not have was so but at me".split()
)


def _looks_english(text: str) -> bool:
    words = text.lower().split()
    if len(words) < 8:
        return sum(c.isascii() for c in text) > 0.8 * len(text)
    return sum(word.strip(".,;:!?'\"") in FUNCTION_WORDS for word in words) > 0.06 * len(words)


def _report(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise InputError(f"Cannot use '{path}': {'; '.join(problems[:MAX_PROBLEMS])}{more}. Mend or remove these.")


Records = Iterator[tuple[str, dict[str, Any]]]


def _decode(path: Path) -> str:
    data = read_bytes(path)
    try:
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"'{path}' is no whole gzip file: {error}. Fetch it again.") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"'{path}' is not UTF-8 text: {error}. Save it as UTF-8.") from error


def json_lines(path: Path) -> Records:
    """Yield the records of a JSON Lines file, plain or gzipped, each with its place; what is no object counts as empty.

    Raises
    ------
    FileFormatError
        It is cut, or a line is not JSON.
    """
    for i, line in enumerate(_decode(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"Line {i} of '{path}' is not JSON: {error}. One JSON object a line is expected.") from error
        if "\\u" in line and not _encodable(value):
            raise FileFormatError(f"Line {i} of '{path}' holds half of a surrogate pair, which is no character. Mend the line.")
        yield f"line {i}", value if isinstance(value, dict) else {}


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: Path) -> Records:
    for i, line in enumerate(_decode(path).splitlines(), 1):
        if line.strip():
            yield f"line {i}", {"text": line}


def _csv(path: Path) -> Records:
    try:
        reader = csv.DictReader(io.StringIO(_decode(path), newline=""), strict=True)
        if "text" not in (reader.fieldnames or []):
            raise FileFormatError(f"'{path}' has the columns {reader.fieldnames}, expected one named 'text'.")
        for row in reader:
            yield f"line {reader.line_num}", {"text": row.get("text"), "prompt": row.get("prompt") or None}
    except csv.Error as error:
        raise FileFormatError(f"'{path}' is not valid CSV: {error}. Export it again.") from error


def _parquet(path: Path) -> Records:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("Parquet files need pyarrow. Install it with: pip install 'xpert[parquet]'") from error
    if not path.exists():
        raise NotFoundError(f"There is no file '{path}'. Check the path.")
    try:
        table = parquet.read_table(path)
        columns = [name for name in ("text", "prompt") if name in table.column_names]
        rows = table.select(columns).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"'{path}' is not a whole Parquet file: {error}. Export it again.") from error
    if "text" not in table.column_names:
        raise FileFormatError(f"'{path}' has the columns {table.column_names}, expected one named 'text'.")
    for i, row in enumerate(rows, 1):
        yield f"row {i}", row
