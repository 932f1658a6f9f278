"""How long a choice takes, and how much faster many pLLMs are explained together than one after another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

from xpert.bench.record import provenance
from xpert.core.catalogue import Candidates
from xpert.core.data import users
from xpert.core.encoder import Encoder
from xpert.core.selection import choose
from xpert.core.space import StyleSpace
from xpert.core.texts import PersonalText
from xpert.models.base import load_base
from xpert.models.names import listed
from xpert.models.probing import BASE, GenerationSettings, answer_probes

N_TEXTS = 50


def run_selection_speed(
    encoders: Mapping[str, Encoder], candidates: Candidates, *, space: StyleSpace, repeats: int = 5
) -> dict[str, Any]:
    """Time 50 texts to a choice with each encoder on one core, start-up apart, in turn; and compare their choices.

    Parameters
    ----------
    encoders
        Engine -> encoder, all of one name.
    candidates, space
        The catalogue and its space.
    repeats
        Timed choices with each; the median counts.
    """
    texts = [PersonalText(text.text) for text in users()]
    by_user = {text.user: [PersonalText(t.text) for t in users() if t.user == text.user][:N_TEXTS] for text in users()}
    times: dict[str, list[float]] = {engine: [] for engine in encoders}
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    choices: dict[str, list[str]] = {}
    try:
        if before:
            os.sched_setaffinity(0, {min(before)})
        for engine, encoder in encoders.items():
            choose(texts[:N_TEXTS], candidates, space=space, encoder=encoder)
            choices[engine] = [choose(row, candidates, space=space, encoder=encoder).matches[0].name for row in by_user.values()]
        for _ in range(repeats):
            for engine, encoder in encoders.items():
                start = perf_counter()
                choose(texts[:N_TEXTS], candidates, space=space, encoder=encoder)
                times[engine].append(perf_counter() - start)
    finally:
        if before:
            os.sched_setaffinity(0, before)
    first = next(iter(choices.values()))
    return {
        "benchmark": "selection-speed",
        "n_texts": N_TEXTS,
        "cores": 1,
        "seconds": {engine: round(float(np.median(row)), 3) for engine, row in times.items()},
        "agreement": round(float(np.mean([a == b for row in choices.values() for a, b in zip(first, row, strict=True)])), 3),
        **provenance(seed=0),
    }


def run_explain_many(probes: list[str], *, n_pllms: int = 12, max_new_tokens: int = 160) -> dict[str, Any]:
    """Time the probing of many starter pLLMs together against one after another, interleaved in one run.

    One after another is what a user without this library writes: for each pLLM, the base's and the pLLM's answers, each
    prompt by itself; the stricter baseline answers all prompts of one model in one batch.
    """
    base = load_base("starter:base")
    adapters = {name: base.adapter(name) for name in listed("starter")[:n_pllms]}
    whole = GenerationSettings(max_new_tokens=max_new_tokens, max_rows=1024)
    single = GenerationSettings(max_new_tokens=max_new_tokens, max_rows=1)
    answer_probes(base, {}, probes[:2], settings=whole)  # warm-up
    start = perf_counter()
    together = answer_probes(base, adapters, probes, settings=whole)
    together_s = perf_counter() - start
    batched_s = plain_s = 0.0
    same = []
    for i, (name, adapter) in enumerate(adapters.items()):
        start = perf_counter()
        batched = answer_probes(base, {name: adapter}, probes, settings=whole)
        batched_s += perf_counter() - start
        same += [a == b for a, b in zip(batched[name], together[name], strict=True)]
        if i % 4 == 0:  # a sample of the pLLMs: prompt by prompt is slow
            start = perf_counter()
            answer_probes(base, {name: adapter}, probes, settings=single)
            plain_s += perf_counter() - start
    plain_s *= len(adapters) / len(range(0, len(adapters), 4))
    return {
        "benchmark": "explain-many",
        "pllms": len(adapters),
        "probes": len(probes),
        "answers": sum(len(row) for row in together.values()),
        "base_answers": len(together[BASE]),
        "seconds": {
            "together": round(together_s, 2),
            "one after another": round(plain_s, 2),
            "one after another, batched": round(batched_s, 2),
        },
        "speedup": round(plain_s / together_s, 2),
        "speedup_over_batched": round(batched_s / together_s, 2),
        "same_answers": round(float(np.mean(same)), 4),
        **provenance(seed=0),
    }
