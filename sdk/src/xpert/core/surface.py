"""Surface style statistics: lengths, punctuation, markup and rates of function words, 112 numbers a text.

They carry manner rather than topic: a text's subject hardly moves them, its register does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SURFACE_VERSION = 1

FUNCTION_WORDS = (
    "the a an of to and in is that it for you your i we our my this be are with as on not have has can will would "
    "should may might must could do does did but or if so just like really very well oh hey sure thing imagine "
    "let's think therefore thus however moreover which whom upon such one their they he she his her its thou thee "
    "thy doth hath 'tis o gonna yeah lol please because when then there all no never "
).split()

SHAPES = (
    "log_words",
    "words_a_sentence",
    "sentence_length_spread",
    "letters_a_word",
    "long_words",
    "distinct_words",
    "exclamations",
    "questions",
    "commas",
    "semicolons",
    "colons",
    "dashes",
    "parentheses",
    "apostrophes",
    "quotes",
    "ellipses",
    "emoji",
    "hashtags",
    "bold",
    "line_breaks",
    "list_items",
    "digits",
    "capitalized_words",
    "all_caps_words",
    "lowercase_start",
)

SURFACE_NAMES = SHAPES + tuple(f"word:{word}" for word in FUNCTION_WORDS)

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|['’][^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?]+")
_EMOJI = re.compile("[\U0001f000-\U0001faff☀-➿]")
_LIST_ITEM = re.compile(r"^[ \t]{0,8}(?:[-*•]|\d{1,3}[.)])[ \t]", re.MULTILINE)
_INDEX = {word: i for i, word in enumerate(FUNCTION_WORDS)}


def surface_statistics(texts: Sequence[str]) -> NDArray[np.float32]:
    """Measure the surface style of texts.

    Parameters
    ----------
    texts
        Any texts; an empty one gives zeros. Time is linear in their length.

    Returns
    -------
    ndarray of shape (n_texts, len(SURFACE_NAMES))
        Rates a sentence or a ten words, and square roots of function-word rates; finite for any input.
    """
    if not texts:
        return np.zeros((0, len(SURFACE_NAMES)), np.float32)
    return np.array([_measure(text) for text in texts], np.float32)


def _measure(text: str) -> list[float]:
    words = _WORD.findall(text)
    if not words and not text.strip():
        return [0.0] * len(SURFACE_NAMES)
    n_words = max(len(words), 1)
    lower = [word.lower().replace("’", "'") for word in words]
    counts = [0] * len(FUNCTION_WORDS)
    for word, count in Counter(lower).items():
        if word in _INDEX:
            counts[_INDEX[word]] = count
    return _shape(text, words, lower) + [3 * (count / n_words) ** 0.5 for count in counts]


def _shape(text: str, words: list[str], lower: list[str]) -> list[float]:
    n_words = max(len(words), 1)
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    lengths = [n for a, b in pairwise(ends) if (n := text.count(" ", a, b))]
    n_sentences = max(len(ends) - 2, 1)
    letters = [len(word) for word in words]

    def rate(count: int) -> float:
        return 10 * count / n_words

    return [
        float(np.log(n_words)),
        n_words / n_sentences,
        float(np.std(lengths)) if lengths else 0.0,
        sum(letters) / n_words,
        sum(n > 8 for n in letters) / n_words,
        len(set(lower)) / n_words,
        text.count("!") / n_sentences,
        text.count("?") / n_sentences,
        rate(text.count(",")),
        rate(text.count(";")),
        rate(text.count(":")),
        rate(text.count("—") + text.count("–") + text.count(" - ")),
        rate(text.count("(")),
        rate(text.count("'") + text.count("’")),
        rate(text.count('"') + text.count("“")),
        rate(text.count("...") + text.count("…")),
        rate(len(_EMOJI.findall(text))),
        rate(text.count("#")),
        rate(text.count("**")),
        rate(text.count("\n")),
        rate(len(_LIST_ITEM.findall(text))),
        rate(sum(c.isdigit() for c in text)),
        sum(word[0].isupper() for word in words) / n_words,
        sum(len(word) > 1 and word.isupper() for word in words) / n_words,
        float(text.lstrip()[:1].islower()),
    ]
