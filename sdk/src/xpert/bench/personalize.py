"""What starting from the choice saves on the device: a step against eager torch, and a whole run against from scratch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from xpert.bench.record import provenance
from xpert.bench.starter import StarterCatalogue
from xpert.core.data import PROBE_PROMPTS, stylebank
from xpert.core.runtime import DeviceRuntime, PersonalizeOptions, PersonalizeResult
from xpert.core.selection import choose
from xpert.core.space import NEUTRAL
from xpert.core.texts import PersonalText
from xpert.models.names import resolve

SIMILARITIES = (0.9, 0.7, 0.5)
STYLES = ("poetic", "concise", "friendly")
N_TEXTS = 40
WATTS = 4.0
"""Power model: a phone's processor under sustained load; energy here is time times this, not a measurement."""

TEXTS = "StyleBank answers to prompts that no adapter was trained on; the base itself has learned answers to them in all styles."

OPTIONS = PersonalizeOptions(max_steps=60, batch_size=8, learning_rate=5e-3, eval_every=2, patience=30)


def run_personalize(
    starter: StarterCatalogue, runtime: DeviceRuntime, *, cache: Path, work: Path, seed: int = 0
) -> dict[str, Any]:
    """Fine-tune from scratch and from the choice on texts of known similarity; count steps, time and modelled energy.

    The target is the lowest held-out loss that the run from scratch reaches within its steps: both are timed to it. The time
    of choosing (encoding and ranking, one core) is added to the run from the choice.
    """
    rows = []
    for similarity in SIMILARITIES:
        for style in STYLES:
            texts = texts_like(style, similarity, seed=seed)
            start = perf_counter()
            found = choose(texts, starter.catalogue.candidates, space=starter.space, encoder=starter.encoder)
            selecting = perf_counter() - start
            first = found.matches[0].name
            options = replace(OPTIONS, seed=seed)
            run = {
                label: runtime.personalize(
                    resolve("starter:base"),
                    texts,
                    work / f"{style}-{similarity}-{label}",
                    init_adapter=adapter,
                    options=options,
                    cache=cache,
                )
                for label, adapter in (("scratch", None), ("choice", resolve(f"starter:{first}")))
            }
            rows.append(
                {"style": style, "similarity": similarity, "choice": first, "abstain": found.abstain, **compare(run, selecting)}
            )
    summary = {f"{100 * s:.0f}": summarize([row for row in rows if row["similarity"] == s]) for s in SIMILARITIES}
    return {
        "benchmark": "personalize",
        "texts": TEXTS,
        "watts_model": WATTS,
        "runs": rows,
        "summary": summary,
        **provenance(seed=seed),
    }


def texts_like(style: str, similarity: float, *, seed: int) -> list[PersonalText]:
    """Draw personal texts on prompts that no starter adapter has seen: this share in ``style``, the rest in all others."""
    rng = np.random.default_rng(seed)
    bank = {(t.style, t.id): t for t in stylebank() if t.id in PROBE_PROMPTS}
    others = sorted({s for s, _ in bank} - {style, NEUTRAL})
    ids = rng.permutation(sorted(PROBE_PROMPTS))[:N_TEXTS]
    n_own = round(similarity * N_TEXTS)
    picked = [bank[style if i < n_own else others[int(rng.integers(len(others)))], name] for i, name in enumerate(ids)]
    return [PersonalText(t.text, t.prompt) for t in picked]


def compare(run: dict[str, PersonalizeResult], selecting: float) -> dict[str, Any]:
    """Compare two runs to the best loss of the one from scratch, selection counted."""
    target = min(loss for _, loss in run["scratch"].held_out)
    reached = {label: steps_to(result.held_out, target) for label, result in run.items()}
    steps = {label: run[label].steps if found is None else found for label, found in reached.items()}
    # Both run the same program on the same texts: one time a step for both, so that another load on the machine does not count.
    each = sum(result.seconds for result in run.values()) / max(sum(result.steps for result in run.values()), 1)
    seconds = {label: steps[label] * each for label in run}
    seconds["choice"] += selecting
    return {
        "target_loss": round(target, 4),
        "scratch_steps": steps["scratch"],
        "choice_steps": steps["choice"],
        "choice_reached": reached["choice"] is not None,
        "scratch_seconds": round(seconds["scratch"], 3),
        "choice_seconds": round(seconds["choice"], 3),
        "selection_seconds": round(selecting, 3),
        "scratch_joules_model": round(seconds["scratch"] * WATTS, 2),
        "choice_joules_model": round(seconds["choice"] * WATTS, 2),
        "steps_saved": round(1 - steps["choice"] / max(steps["scratch"], 1), 3),
        "time_saved": round(1 - seconds["choice"] / max(seconds["scratch"], 1e-9), 3),
    }


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sum up runs of one similarity; a run that never reached the target counts with all its steps."""
    total = {key: sum(row[key] for row in rows) for key in ("scratch_steps", "choice_steps", "scratch_seconds", "choice_seconds")}
    return {
        "reached": sum(row["choice_reached"] for row in rows) / len(rows),
        "scratch_steps": total["scratch_steps"] / len(rows),
        "choice_steps": total["choice_steps"] / len(rows),
        "steps_saved": round(1 - total["choice_steps"] / max(total["scratch_steps"], 1), 3),
        "time_saved": round(1 - total["choice_seconds"] / max(total["scratch_seconds"], 1e-9), 3),
    }


def steps_to(held_out: Sequence[tuple[int, float]], target: float) -> int | None:
    """Return the step at which a held-out loss first reaches ``target``, or None where it never does."""
    return next((step for step, loss in held_out if loss <= target + 1e-9), None)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    }
}
"""Shapes of real phone models; time and memory of a step do not depend on what the weights say."""


def write_random_model(geometry: str, folder: Path) -> Path:
    """Write a model of a real one's shape with random weights, and the starter's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(resolve("starter:base"))
    end = tokenizer.eos_token_id
    config = LlamaConfig(**GEOMETRIES[geometry], eos_token_id=end, pad_token_id=end, bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="100GB")
    tokenizer.save_pretrained(folder)
    return folder


MEASURE = """
import json, sys, time
from pathlib import Path
engine, folder, steps, cache, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
from xpert.bench.personalize import step_measurer
import numpy, safetensors, torch
if engine == "executorch": from executorch.extension.pybindings import portable_lib
else: import peft, transformers
imported = resident("VmRSS")
run = step_measurer(engine, folder, cache=cache, threads=threads)
run(); times = []
for _ in range(steps):
    start = time.perf_counter(); run(); times.append(time.perf_counter() - start)
peak = resident("VmHWM")  # not ru_maxrss, which begins with the parent's
print(json.dumps({"ms": sorted(times)[len(times) // 2] * 1e3, "peak_mb": peak, "model_mb": peak - imported}))
"""


def measure_step(folder: Path, *, cache: Path, threads: int = 2, steps: int = 10, rounds: int = 3) -> dict[str, Any]:
    """Measure a training step (8 texts) in ExecuTorch and in eager torch with PEFT, in processes of their own, in turn.

    ``peak_mb`` is the largest resident memory of the process, ``model_mb`` what of it came after the libraries were imported:
    a phone's native runtime has no Python and no torch to import.
    """
    step_measurer("executorch", folder, cache=cache, threads=threads)  # exports, which would count as memory below
    found: dict[str, list[dict[str, float]]] = {"executorch": [], "eager": []}
    for _ in range(rounds):
        for engine, row in found.items():
            command = [sys.executable, "-W", "ignore", "-c", MEASURE, engine, str(folder), str(steps), str(cache), str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row.append(json.loads(done.stdout.splitlines()[-1]))
    median = {engine: {key: round(float(np.median([r[key] for r in row])), 1) for key in row[0]} for engine, row in found.items()}
    ours, eager = median["executorch"], median["eager"]
    ratios = {f"{key}_ratio": round(ours[key] / eager[key], 3) for key in ("ms", "peak_mb", "model_mb")}
    return {"threads": threads, **median, **ratios}


def step_measurer(engine: str, folder: Path, *, cache: Path, threads: int) -> Any:
    """Return a function that runs one training step (8 texts) on ``engine``, everything loaded."""
    texts = texts_like("poetic", 1.0, seed=0)[:8]
    if engine == "executorch":
        from xpert.core.runtime import find_runtime

        return find_runtime().training_step(folder, texts, cache=cache, threads=threads)
    import torch
    from peft import LoraConfig, get_peft_model

    from xpert.models.base import load_base
    from xpert.models.prompting import answer_ids, prompt_ids

    torch.set_num_threads(threads)
    base = load_base(folder)
    model = get_peft_model(base.model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    rows = [(prompt_ids(base.tokenizer, t.prompt), answer_ids(base.tokenizer, t.text)) for t in texts]
    width = -(-max(len(p) + len(a) for p, a in rows) // 32) * 32
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, (prompt, answer) in enumerate(rows):
        ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)

    def step() -> None:
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
