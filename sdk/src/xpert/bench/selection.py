"""How often the right pLLM is chosen: on any file of parallel answers, and among 28 candidates of the StyleBank."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xpert.bench.aims import PAPER
from xpert.bench.record import provenance
from xpert.bench.trials import (
    Grid,
    Setting,
    accuracy,
    by_chance,
    by_coefficients,
    by_cosine,
    reliability,
    run,
)
from xpert.core.data import exemplars, stylebank
from xpert.core.encoder import Encoder
from xpert.core.errors import InputError
from xpert.core.files import read_safetensors, sha256_hex, write_safetensors
from xpert.core.space import NEUTRAL, StyleSpace, build_space
from xpert.core.texts import json_lines

N_TEXTS = (5, 10, 25, 50)
SIMILARITIES = (0.3, 0.5, 0.7, 0.8, 0.9)

TRIALS, BASELINE_TRIALS = 2000, 400
"""Choices a figure: the standard error of 95 % is 0.5 points with 2000 of them, 1.1 with 400."""

N_MIXTURES = 16
TWINS = frozenset({"b055"})
"""StyleBank prompts that an exemplar prompt repeats; left out where axes come from the exemplars."""

Progress = Callable[[int, int], None]


def run_selection(
    data: Path, encoder: Encoder, *, cache: Path, trials: int = TRIALS, n_probes: int = 50, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure selection on a file of records ``{"style", "context", "input", "response"}`` with style 0 as the base.

    The default style space is used as it is: nothing is fitted on the file.

    Parameters
    ----------
    data
        JSON Lines, plain or gzipped.
    encoder
        The default encoder.
    cache
        Folder for the texts' vectors, by content.
    trials, n_probes
        Choices a figure (of the baselines at most `BASELINE_TRIALS`), probes a pLLM.
    progress
        Called as ``progress(texts encoded, texts in all)``.

    Raises
    ------
    FileFormatError, InputError
        The file cannot be used.
    """
    texts = read_parallel(data)
    n_styles, n_prompts = len(texts), len(texts[0])
    if n_prompts < n_probes + max(N_TEXTS):
        raise InputError(
            f"'{data}' has {n_prompts} prompts answered in all styles, at least {n_probes + max(N_TEXTS)} are needed."
        )
    space = StyleSpace.default()
    space.check_encoder(encoder)
    raw = encoded(encoder, [text for row in texts for text in row], cache=cache, progress=progress)
    grids = _grids(space, raw, n_styles)
    singles = [(style,) for style in range(1, n_styles)]
    methods = {
        name: _figures(grid, singles, rule, trials if name == "coefficients" else min(trials, BASELINE_TRIALS), n_probes)
        for name, (grid, rule) in grids.items()
    }
    return {
        "benchmark": "selection",
        "data": {"file": data.name, "styles": n_styles, "prompts": n_prompts},
        "trials": trials,
        "baseline_trials": min(trials, BASELINE_TRIALS),
        "n_probes": n_probes,
        "methods": methods,
        "paper": {"similarity": dict(PAPER), "candidates": 28},
        **provenance(seed=0),
    }


def run_candidates(
    encoder: Encoder, *, cache: Path, trials: int = TRIALS, n_probes: int = 50, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure selection among 28 candidates, as many as the paper has: 12 StyleBank styles and 16 two-style mixtures.

    The confidences' reliability comes with it.
    """
    grid, styles, words = bank_grid(encoder, cache=cache, progress=progress)
    pairs = list(combinations(range(1, len(styles)), 2))
    chosen = np.random.default_rng(0).choice(len(pairs), N_MIXTURES, replace=False)
    pllms = [(style,) for style in range(1, len(styles))] + [pairs[i] for i in sorted(chosen)]
    rule = partial(by_coefficients, words=words)
    unpaired = partial(Setting, n_probes=n_probes, paired=False)
    pure = [unpaired(n_texts=n) for n in (1, 2, 5, 10, 25, 50)]
    mixed = [unpaired(n_texts=50, similarity=similarity) for similarity in SIMILARITIES]
    outcomes, of_mixed = (
        [outcome for setting in settings for outcome in run(grid, pllms, setting, rule, trials=trials, seed=setting.n_texts)]
        for settings in (pure, mixed)
    )
    return {
        "benchmark": "selection-28",
        "candidates": ["+".join(styles[i] for i in pllm) for pllm in pllms],
        "trials": trials,
        "n_probes": n_probes,
        "methods": {"coefficients": _figures(grid, pllms, rule, trials, n_probes)},
        "reliability": reliability(outcomes),
        "calibration_error": calibration_error(reliability(outcomes)),
        "reliability_mixed": reliability(of_mixed),
        "calibration_error_mixed": calibration_error(reliability(of_mixed)),
        "paper": {"similarity": dict(PAPER), "candidates": 28},
        **provenance(seed=0),
    }


def bank_grid(encoder: Encoder, *, cache: Path, progress: Progress | None = None) -> tuple[Grid, list[str], tuple[str, ...]]:
    """Return the StyleBank's coefficients by style (the base first) and prompt, the styles, and the words.

    Axes come from the exemplars alone, whose prompts stand nowhere in the StyleBank.
    """
    bank = [text for text in stylebank() if text.id not in TWINS]
    styles = [NEUTRAL, *sorted({text.style for text in bank} - {NEUTRAL})]
    ids = sorted({text.id for text in bank})
    by = {(text.style, text.id): text.text for text in bank}
    raw = encoded(encoder, [by[style, i] for style in styles for i in ids], cache=cache, progress=progress)
    axes = list(exemplars())
    space = build_space(
        axes, encoder, name="exemplars", raw=encoded(encoder, [text.text for text in axes], cache=cache, progress=progress)
    )
    return space.coefficients(raw).reshape(len(styles), len(ids), -1), styles, space.words


def calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    """Return the mean distance of confidence and share right over all choices."""
    total = sum(n for *_, n in bins)
    return round(sum(abs(confidence - right) * n for confidence, right, n in bins) / total, 4)


def read_parallel(path: Path) -> list[list[str]]:
    """Read answers by style and prompt; prompts that lack a style are left out.

    Returns
    -------
    list
        For every style, from 0 on, the answers in the same order of prompts.

    Raises
    ------
    FileFormatError
        The file is not JSON Lines.
    InputError
        Records lack a part, or no prompt is answered in all styles.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for place, record in json_lines(path):
        style, asked, response = record.get("style"), record.get("input"), record.get("response")
        if not isinstance(style, int) or not isinstance(asked, str) or not isinstance(response, str):
            raise InputError(f"Cannot use '{path}': {place} lacks a number under style or a text under input or response.")
        found.setdefault((str(record.get("context") or ""), asked), {})[style] = response
    styles = sorted({style for row in found.values() for style in row})
    if styles != list(range(len(styles))) or len(styles) < 3:
        raise InputError(f"'{path}' has the styles {styles}, expected 0 (the base) and at least two more, without gaps.")
    keys = sorted(key for key, row in found.items() if len(row) == len(styles))
    if not keys:
        raise InputError(f"No prompt of '{path}' is answered in all styles.")
    return [[found[key][style] for key in keys] for style in styles]


def encoded(encoder: Encoder, texts: Sequence[str], *, cache: Path, progress: Progress | None = None) -> Grid:
    """Encode texts, or take their vectors from ``cache``; shape (n_texts, dim)."""
    path = cache / f"{sha256_hex(json.dumps([encoder.name, list(texts)]).encode())[:24]}.safetensors"
    if not path.exists():
        parts = []
        for start in range(0, len(texts), 128):
            parts.append(encoder.encode(texts[start : start + 128]))
            if progress:
                progress(min(start + 128, len(texts)), len(texts))
        write_safetensors(path, {"vectors": np.concatenate(parts)})
    vectors: Grid = read_safetensors(path)[0]["vectors"].astype(np.float64)
    return vectors


def _grids(space: StyleSpace, raw: Grid, n_styles: int) -> dict[str, tuple[Grid, Any]]:
    """Give every method its vectors and its rule."""
    features = space.features(raw)
    shaped = {
        "coefficients": (space.coefficients(raw), partial(by_coefficients, words=space.words)),
        "full-space": (space.whiten(raw), by_cosine),
        "sentence": (raw[:, : space.n_sentence], by_cosine),
        "surface": (features[:, space.n_sentence :], by_cosine),
        "chance": (np.zeros((len(raw), 1)), by_chance),
    }
    return {name: (values.reshape(n_styles, -1, values.shape[1]), rule) for name, (values, rule) in shaped.items()}


def _figures(grid: Grid, pllms: Sequence[tuple[int, ...]], rule: Any, trials: int, n_probes: int) -> dict[str, Any]:
    def measure(setting: Setting) -> float:
        return accuracy(run(grid, pllms, setting, rule, trials=trials))

    def by_texts(*, paired: bool) -> dict[str, float]:
        return {str(n): measure(Setting(n_texts=n, n_probes=n_probes, paired=paired)) for n in N_TEXTS}

    def by_similarity(*, paired: bool, others_only: bool = False) -> dict[str, float]:
        mixed = partial(Setting, n_texts=50, n_probes=n_probes, paired=paired, others_only=others_only)
        return {f"{100 * s:.0f}": measure(mixed(similarity=s)) for s in SIMILARITIES}

    return {
        "paired": by_texts(paired=True),
        "unpaired": by_texts(paired=False),
        "similarity": by_similarity(paired=True),
        "similarity_unpaired": by_similarity(paired=False),
        "similarity_others_only": by_similarity(paired=True, others_only=True),
        "similarity_others_only_unpaired": by_similarity(paired=False, others_only=True),
    }
