"""How long a choice takes, and how much faster many pLLMs are explained together than one after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from xpert.bench.record import provenance
from xpert.core.catalogue import Catalogue
from xpert.core.data import users
from xpert.core.encoder import Encoder, JointEncoder
from xpert.core.runtime import find_runtime
from xpert.core.selection import choose
from xpert.core.space import StyleSpace
from xpert.core.texts import PersonalText
from xpert.models.base import load_base
from xpert.models.encoders import default_encoder
from xpert.models.names import listed
from xpert.models.probing import BASE, GenerationSettings, answer_probes

N_TEXTS = 50


ONE_CORE = """
import json, os, sys
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any thread pool takes its size
from xpert.bench.speed import time_choices
print(json.dumps(time_choices(Path(sys.argv[1]), cache=Path(sys.argv[2]))))
"""


def run_selection_speed(catalogue: Catalogue, *, cache: Path) -> dict[str, Any]:
    """Time 50 texts to a choice on one core, torch and ExecuTorch in turn, start-up apart; and compare their choices.

    Parameters
    ----------
    catalogue
        The pLLMs to choose from, in the default style space.
    cache
        Folder of the device runtime's exported programs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.catalogue.json"
        catalogue.save(path)
        command = [sys.executable, "-W", "ignore", "-c", ONE_CORE, str(path), str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"benchmark": "selection-speed", **json.loads(done.stdout.splitlines()[-1]), **provenance(seed=0)}


def time_choices(catalogue: Path, *, cache: Path, repeats: int = 5) -> dict[str, Any]:
    """Time choices with both encoders in this process, one thread each; the median of ``repeats`` counts."""
    import torch

    torch.set_num_threads(1)
    candidates, space = Catalogue.load(catalogue).candidates, StyleSpace.default()
    encoders: dict[str, Encoder] = {
        "torch": default_encoder(),
        "executorch": JointEncoder(find_runtime().sentence_encoder(cache=cache, threads=1)),
    }
    by_user = {text.user: [PersonalText(t.text) for t in users() if t.user == text.user][:N_TEXTS] for text in users()}
    first, *_ = by_user.values()
    times: dict[str, list[float]] = {engine: [] for engine in encoders}
    choices = {
        engine: [choose(row, candidates, space=space, encoder=encoder).matches[0].name for row in by_user.values()]
        for engine, encoder in encoders.items()
    }
    for _ in range(repeats):
        for engine, encoder in encoders.items():
            start = perf_counter()
            choose(first, candidates, space=space, encoder=encoder)
            times[engine].append(perf_counter() - start)
    same = [a == b for a, b in zip(choices["torch"], choices["executorch"], strict=True)]
    return {
        "n_texts": N_TEXTS,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {engine: round(float(np.median(row)), 3) for engine, row in times.items()},
        "agreement": round(float(np.mean(same)), 3),
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
