#!/usr/bin/env python3
"""Write src/text/unicode_tables.inc: what Python knows of every character, as ranges for the native core.

The surface statistics ask Python's str and re for classes and lower case; on the phone these tables answer. Run it again when
Python's Unicode version rises: python mobile/native/tools/unicode_tables.py
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src" / "text" / "unicode_tables.inc"
LINE = 138

LETTER, DECIMAL, DIGIT, UPPER, LOWER, TITLE, CASED, IGNORABLE, SPACE = (1 << i for i in range(9))


def characters() -> Iterator[str]:
    """Yield every character that a UTF-8 text can hold."""
    return (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)


def flags(c: str) -> int:
    """Return what src/text/unicode.h calls a character's classes."""
    # What stands before a final sigma is not in unicodedata, but lower() itself tells it.
    cased = ("1" + c + "Σ").lower().endswith("ς")
    ignorable = not cased and ("A" + c + "Σ").lower().endswith("ς")
    return (
        LETTER * (c.isalnum() and not c.isdecimal())
        | DECIMAL * c.isdecimal()
        | DIGIT * c.isdigit()
        | UPPER * c.isupper()
        | LOWER * c.islower()
        | TITLE * (c.istitle() and not c.isupper())
        | CASED * cased
        | IGNORABLE * ignorable
        | SPACE * c.isspace()
    )


def class_ranges() -> list[tuple[int, int, int]]:
    """Return (first, last, flags) of the characters that have any, in order."""
    found: list[tuple[int, int, int]] = []
    for c in characters():
        value = flags(c)
        if not value:
            continue
        if found and found[-1][1] == ord(c) - 1 and found[-1][2] == value:
            found[-1] = (found[-1][0], ord(c), value)
        else:
            found.append((ord(c), ord(c), value))
    return found


def lower_ranges() -> list[tuple[int, int, int, int]]:
    """Return (first, last, step, difference to the lower case) of the characters with one lower-case character."""
    found: list[tuple[int, int, int, int]] = []
    for c in characters():
        low = c.lower()
        if low == c or len(low) != 1:
            continue
        code, difference = ord(c), ord(low) - ord(c)
        first, last, step, same = found[-1] if found else (0, -9, 0, 0)
        gap = code - last
        if same == difference and gap in (1, 2) and step in (0, gap):
            found[-1] = (first, code, gap, same)
        else:
            found.append((code, code, 0, difference))
    return [(first, last, step or 1, difference) for first, last, step, difference in found]


def longer() -> list[tuple[int, ...]]:
    """Return the characters whose lower case is longer, each with it."""
    return [(ord(c), *map(ord, c.lower())) for c in characters() if len(c.lower()) > 1]


def rows(name: str, kind: str, values: Iterable[tuple[int, ...]]) -> str:
    """Write an array of structs, as many to a line as fit."""
    lines, line = [], ""
    for value in values:
        item = "{" + ", ".join(str(number) for number in value) + "},"
        if len(line) + len(item) + 1 > LINE:
            lines.append(line)
            line = ""
        line += " " + item if line else item
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def tables() -> str:
    """Return the whole file."""
    return (
        "// Written by tools/unicode_tables.py from Python's own tables; not edited by hand.\n"
        f'constexpr const char *kUnicodeVersion = "{unicodedata.unidata_version}";\n'
        + rows("kClasses", "ClassRange", class_ranges())
        + rows("kLower", "LowerRange", lower_ranges())
        + rows("kLonger", "LongerLower", longer())
    )


if __name__ == "__main__":
    TARGET.write_text(tables(), encoding="utf-8")
    print(f"Wrote {TARGET}.")
