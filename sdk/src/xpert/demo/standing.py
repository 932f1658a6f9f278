"""How good the starter pLLMs are, by their own published evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path

from xpert.core.errors import FileFormatError
from xpert.core.files import read_bytes

AIM = 0.9
"""Of the answers to unseen prompts, the share that is to be fluent and in the pLLM's style."""


def standing(path: Path, *, n_tokens: int) -> str:
    """Say how far the starter pLLMs are from the aim on prompts that they were not trained on.

    Parameters
    ----------
    path
        ``evaluation.json`` of the starter models.
    n_tokens
        Size of the vocabulary.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileFormatError
        It is no evaluation.
    """
    try:
        shares = {str(name): float(row["both"]) for name, row in json.loads(read_bytes(path))["pllms"].items()}
        worst, best = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"'{path}' is no evaluation of the starter models: {error!r}. Install xpert-starter again."
        ) from error
    met = sum(share >= AIM for share in shares.values())
    return (
        f"The starter pLLMs are tiny. On prompts that they were not trained on, at least {AIM:.0%} of a pLLM's answers should be "
        f"fluent and in its style: {met} of {len(shares)} reach that, from '{best}' with {shares[best]:.0%} down to '{worst}' "
        f"with {shares[worst]:.0%} (measured when they were made). A loss above {math.log(n_tokens):.2f} is worse than guessing "
        "every token at random: it only compares one start with another."
    )
