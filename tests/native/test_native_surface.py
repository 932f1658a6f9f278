"""Unicode and surface statistics of the native core beside Python's own."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from native_cases import BAD_INPUT, Native, PartError, tool

from xpert.core.data import exemplars, levels, stylebank, users
from xpert.core.surface import SURFACE_NAMES, surface_statistics

PIECES = [
    *"aZéßΣςσΑΩ'’.!?,;:—–-()\"“…#*\n\r\t 0٣Ⅷ½²೬ǅİıﬁŉ_",
    "\u0301", "\u00ad", "\u200d", "\u2028", "\x1c", "\x85", "\u3000", "🦉", "☕", "👩‍👩‍👧", "שלום", "مرحبا", "東京", "ᏣᎳᎩ",
    "𝒜", "𐐀", "...", "**",
    " - ", "\n- x", "\n12) ", "\n•\t", "the ", "let’s ", "'tis ", "THOU ", "ΟΔΥΣΣΕΥΣ", "Σ'",
]  # fmt: skip


def agree(native: Native, texts: list[str]) -> None:
    ours = np.array(native.call("text.surface", texts=texts), np.float32).reshape(len(texts), len(SURFACE_NAMES))
    theirs = surface_statistics(texts)
    # One rounding of a logarithm or a root apart at most; what is counted is the same to the bit.
    np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=0)


def test_the_names_are_the_sdks(native: Native) -> None:
    assert native.call("text.names")["names"] == list(SURFACE_NAMES)


def test_every_character_is_classed_as_python_does(native: Native) -> None:
    tables = tool("unicode_tables")
    ours = native.call("text.classes")
    known = native.call("text.names")["unicode"] == unicodedata.unidata_version
    for c in tables.characters():
        # A later Unicode gives classes to characters that had none.
        assert ours[ord(c)] == tables.flags(c) or not (known or ours[ord(c)]), hex(ord(c))


def test_every_character_has_pythons_lower_case(native: Native) -> None:
    texts = [c for c in tool("unicode_tables").characters() if unicodedata.category(c) in {"Lu", "Lt", "Nl", "So"}]
    texts += ["ΣΑΣ", "ΑΣ", "ΑΣ.Σ", "Α'Σ", "Α’Σ'Α", "Σ", "ΑΣ\u0301", "\u0301Σ", "İΣ", "AΣ\u00adB"]
    assert ["".join(map(chr, low)) for low in native.call("text.lower", texts=texts)] == [text.lower() for text in texts]


def test_the_statistics_of_all_texts_that_come_with_the_package(native: Native) -> None:
    agree(native, [t.text for t in (*stylebank(), *exemplars(), *levels(), *users())])


def test_the_statistics_of_texts_by_chance(native: Native) -> None:
    chance = random.Random(7)
    agree(native, ["".join(chance.choices(PIECES, k=chance.randrange(60))) for _ in range(3000)])
    everything = [chr(c) for c in range(0x30000) if not 0xD800 <= c <= 0xDFFF]
    agree(native, ["".join(chance.choices(everything, k=200)) for _ in range(500)])


def test_edges(native: Native) -> None:
    agree(
        native,
        [
            "",
            " ",
            "\n",
            "\r\n",
            "a",
            "!",
            "\0",
            "\0a\0b",
            "x " * 50_000,
            "Word. " * 20_000,
            "a\r\n- b\r\n1. c\r\n",
            "- \n- a",
            " " * 9 + "- a",
        ],
    )
    agree(
        native, ["1234. a\n123. b\n٣. c\n3.c\n\t  - d\n-\te\n--f", "a''b", "''a", "'a'b'c'", "don’t ’tis rock’n’roll’", "A B' C"]
    )


def test_what_is_no_utf8_is_refused(native: Native) -> None:
    assert native.call("text.decoded", bytes=list("ß東🦉".encode())) == 3
    for broken in (
        [0x80],
        [0xC0, 0x80],
        [0xC3],
        [0xE0, 0x80, 0x80],
        [0xED, 0xA0, 0x80],
        [0xF4, 0x90, 0x80, 0x80],
        [0xF5, 0x80],
        [0x61, 0xFF],
    ):
        with pytest.raises(PartError, match="no UTF-8") as caught:
            native.call("text.decoded", bytes=broken)
        assert caught.value.status == BAD_INPUT
