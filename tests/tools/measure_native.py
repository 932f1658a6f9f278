"""The native core against torch: step time, peak memory, 50 texts to a choice, tokens a second, energy, size on disk.

``python tests/tools/measure_native.py [--models starter,smollm-360m,...] [--bundles float32,int8-transposed,...]
[--rounds 3] [-o FILE]``.
Every figure comes from a process of its own, native and torch in turn in one run; ratios are of their medians. Peak memory is
VmHWM of the process; the native one holds Python and numpy too, for it is called by ctypes, but no torch. The large models have
the sizes of the real ones and random weights: time and memory do not depend on them. What begins with ``least_`` is measured with
``activations_mb`` 0: every layer but the last is computed once more in the backward pass.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xpert.bench.record import provenance
from xpert.core.files import cache_folder, write_atomic
from xpert.core.surface import SURFACE_NAMES
from xpert.models.names import resolve

LLAMA = {"max_position_embeddings": 2048, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
SIZES: dict[str, tuple[str, tuple[int, int, int, int, int, int]]] = {
    "smollm-360m": ("llama", (960, 2560, 32, 15, 5, 49152)),
    "qwen2-0.5b": ("qwen2", (896, 4864, 24, 14, 2, 151936)),
    "llama-3.2-1b": ("llama", (2048, 8192, 16, 32, 8, 128256)),
}
KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
"""What the numbers of `SIZES` are, in transformers' words."""

BATCH, LENGTH, RANK, NEW_TOKENS = 4, 64, 8, 32
WATTS_A_CORE = 1.5
"""Stated, not measured: a phone's big core under full load."""

RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def main() -> None:
    """Measure and print the record, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(["starter", *SIZES]))
    parser.add_argument("--bundles", default="float32,float32-transposed,int8,int8-transposed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        request = json.loads(given.child)
        print(json.dumps(CHILDREN[request["engine"]](request)))
        return
    work = cache_folder() / "bench-native"
    work.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "benchmark": "native",
        "sizes": {"batch": BATCH, "length": LENGTH, "rank": RANK, "threads": given.threads, "rounds": given.rounds},
        "energy_model": f"seconds x threads x {WATTS_A_CORE} W; rapl_j is the processor's own count where it can be read",
        "models": {},
        "choice": measure_choice(work, given.rounds),
        **provenance(seed=0),
    }
    for name in given.models.split(","):
        record["models"][name] = measure_model(name, given, work)
        # After each: what was measured is not lost with what comes later.
        if given.out:
            write_atomic(given.out, json.dumps(record, indent=1).encode() + b"\n")
        print(json.dumps({name: record["models"][name]}, indent=1), flush=True)


def measure_model(name: str, given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure one model: eager torch once, the native core by every bundle, in turn."""
    folder = resolve("starter:base") if name == "starter" else random_model(name, work / name)
    bundles = {label: bundle_of(folder, name, label, work) for label in given.bundles.split(",")}
    common = {"model": str(folder), "threads": given.threads, "steps": given.steps}
    rows: dict[str, list[dict[str, float]]] = {"torch": [], **{label: [] for label in bundles}}
    for _ in range(given.rounds):
        for label, row in rows.items():
            where = {} if label == "torch" else {"bundle": str(bundles[label])}
            engine = "torch" if label == "torch" else "native"
            row.append(child(engine, common | where))
            if "transposed" not in label:
                row[-1] |= child(f"{engine}-generate", common | where)
            if engine == "native":
                least = child(engine, common | where | {"activations_mb": 0})
                row[-1] |= {f"least_{key}": least[key] for key in ("step_s", "peak_mb")}
    found: dict[str, Any] = {label: medians(row) for label, row in rows.items()}
    for label, bundle in bundles.items():
        ours, eager = found[label], found["torch"]
        for kind in ("", "least_"):
            ours[f"{kind}step_ratio"] = round(ours[f"{kind}step_s"] / eager["step_s"], 3)
            ours[f"{kind}memory_ratio"] = round(ours[f"{kind}peak_mb"] / eager["peak_mb"], 3)
        if "tokens_a_second" in ours:
            ours["tokens_ratio"] = round(ours["tokens_a_second"] / eager["tokens_a_second"], 3)
        ours["disk_mb"] = round(sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 1e6, 1)
    found["torch"]["disk_mb"] = round(sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6, 1)
    return found


def bundle_of(folder: Path, name: str, label: str, work: Path) -> Path:
    """Return the bundle that a label stands for: ``float32``, ``int8``, or one of these with ``-transposed``; made once."""
    from xpert_mobile.bundle.making import BundleOptions, export_bundle
    from xpert_mobile.export_cache import REVISION

    bundle = work / f"{name}-{label}-{REVISION}.xpert"
    if not bundle.exists():
        precision, _, transposed = label.partition("-")
        # An answer takes no transposed weights: these are measured in training alone.
        options = BundleOptions(
            precision=precision,
            rank=RANK,
            batch=BATCH,
            lengths=(LENGTH,),
            generate=0 if transposed else 2 * LENGTH,
            transposed=bool(transposed),
        )
        export_bundle(folder, bundle, options=options, with_encoder=False, cache=work / "programs")
    return bundle


def measure_choice(work: Path, rounds: int) -> dict[str, Any]:
    """Measure 50 texts encoded and a choice among 28 pLLMs on one core, start-up apart."""
    from xpert_mobile.native import encoder_bundle

    request = {"bundle": str(encoder_bundle(work)), "catalogue": str(catalogue(work / "bench.xcat.safetensors"))}
    row = [child("choice", request) for _ in range(rounds)]
    return {"n_texts": 50, "cores": 1, **medians(row)}


def catalogue(path: Path) -> Path:
    """Write a catalogue of 28 pLLMs in the default space; where they stand is no matter for the time."""
    from xpert.core.catalogue import Catalogue
    from xpert.core.explanation import Explanation
    from xpert.core.space import StyleSpace

    rng, space = np.random.default_rng(0), StyleSpace.default()
    k = len(space.words)
    shared: dict[str, Any] = {
        "base_digest": "0" * 64,
        "space_digest": space.digest,
        "adapter_bytes": 1 << 20,
        "words": space.words,
        "held_up": (True,) * k,
        "strength": 1.0,
        "residual_share": 0.1,
        "n_probes": 100,
        "base_coefficients": (0.0,) * k,
        "covariance": tuple(map(tuple, np.eye(k) * 0.1)),
        "base_unexplained": (0.0,) * len(SURFACE_NAMES),
    }
    entries = []
    for i in range(28):
        at = tuple(float(value) for value in rng.normal(0, 0.5, k))
        entries.append(Explanation(name=f"p{i}", adapter_digest=f"{i:064x}", coefficients=at, lower=at, upper=at, **shared))
    Catalogue.of(entries).export_compact(path)
    return path


def child(engine: str, request: Mapping[str, Any]) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", json.dumps({**request, "engine": engine})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} ended with exit status {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure."""
    return {key: round(statistics.median(row[key] for row in rows), 4) for key in rows[0]}


def random_model(name: str, folder: Path) -> Path:
    """Write a model of the real one's sizes with random weights, once."""
    if (folder / "tokenizer.json").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kind, numbers = SIZES[name]
    sizes: dict[str, Any] = dict(zip(KEYS, numbers, strict=True))
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**LLAMA, **sizes)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**LLAMA, **sizes))
    )
    model.save_pretrained(folder)
    for file in ("tokenizer_config.json", "chat_template.jinja", "tokenizer.json"):
        shutil.copy(resolve("starter:base") / file, folder / file)
    return folder


def texts() -> list[str]:
    """Return as many texts as a step takes, each longer than a program, so that no place of a step is padding."""
    from xpert.core.data import users

    long = " ".join(row.text for row in users())
    return [long[i * 2000 : (i + 1) * 2000] for i in range(BATCH)]


def measured(run: Callable[[], float], threads: int) -> dict[str, float]:
    """Run what returns its own seconds; adds peak memory and energy."""
    before = int(RAPL.read_text()) if os.access(RAPL, os.R_OK) else None
    start = time.perf_counter()
    seconds = run()
    share = seconds / max(time.perf_counter() - start, 1e-9)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    found = {"peak_mb": peak / 1024, "modelled_j": seconds * threads * WATTS_A_CORE}
    if before is not None:
        found["rapl_j"] = (int(RAPL.read_text()) - before) / 1e6 * share
    return {**found, "seconds": seconds}


def native_step(request: Mapping[str, Any]) -> dict[str, float]:
    """Train some steps on the native core; the first one loads, and does not count."""
    from xpert_mobile.native_library import NativeEngine

    engine = NativeEngine(Path(request["bundle"]), {"threads": request["threads"]})
    times: list[float] = []
    n_steps = request["steps"] + 1

    def on_step(*_: object) -> None:
        times.append(time.perf_counter())

    def run() -> float:
        with tempfile.TemporaryDirectory() as out:
            options = {"max_steps": n_steps, "batch_size": BATCH, "rank": RANK, "held_out": 0.0, "checkpoint_every": n_steps}
            options["activations_mb"] = request.get("activations_mb")
            engine.personalize([None] * BATCH, texts(), {"out": f"{out}/adapter", **options}, on_step)
        return statistics.median(b - a for a, b in pairwise(times))

    found = measured(run, request["threads"])
    return {"step_s": found.pop("seconds"), **found}


def torch_step(request: Mapping[str, Any]) -> dict[str, float]:
    """Train the same steps by eager torch with PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model

    from xpert.models.base import load_base

    torch.set_num_threads(request["threads"])
    base = load_base(request["model"])
    base.model.config._attn_implementation = "eager"
    model = get_peft_model(base.model, LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    ids = torch.tensor([base.tokenizer(text)["input_ids"][:LENGTH] for text in texts()])

    def run() -> float:
        times = [time.perf_counter()]
        for _ in range(request["steps"] + 1):
            model(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
        return statistics.median(b - a for a, b in pairwise(times[1:]))

    found = measured(run, request["threads"])
    return {"step_s": found.pop("seconds"), **found}


def native_answer(request: Mapping[str, Any]) -> dict[str, float]:
    """Answer a prompt on the native core, once to load and once to count."""
    from xpert_mobile.native_library import NativeEngine

    engine = NativeEngine(Path(request["bundle"]), {"threads": request["threads"]})
    engine.generate("Hello", {"max_new_tokens": 2})
    start = time.perf_counter()
    found = engine.generate("Tell me about vinegar.", {"max_new_tokens": NEW_TOKENS})
    return {"tokens_a_second": found["n_new"] / (time.perf_counter() - start)}


def torch_answer(request: Mapping[str, Any]) -> dict[str, float]:
    """Answer the same prompt by transformers' own loop."""
    import torch

    from xpert.models.base import load_base
    from xpert.models.prompting import prompt_ids

    torch.set_num_threads(request["threads"])
    base = load_base(request["model"])
    ids = torch.tensor([prompt_ids(base.tokenizer, "Tell me about vinegar.")])
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        base.model.generate(ids, max_new_tokens=2, **given)
        start = time.perf_counter()
        made = base.model.generate(ids, max_new_tokens=NEW_TOKENS, **given)
    return {"tokens_a_second": (made.shape[1] - ids.shape[1]) / (time.perf_counter() - start)}


def native_choice(request: Mapping[str, Any]) -> dict[str, float]:
    """Encode 50 texts and choose among 28 pLLMs on one core."""
    from xpert.core.data import users
    from xpert_mobile.native_library import NativeEngine

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    engine = NativeEngine(Path(request["bundle"]), {"threads": 1})
    given = [row.text for row in users()][:50]
    engine.encode(given[:2], dim=int(engine.describe()["dim"]))
    start = time.perf_counter()
    engine.select(Path(request["catalogue"]), given)
    return {"seconds": time.perf_counter() - start}


CHILDREN: Mapping[str, Callable[[Mapping[str, Any]], dict[str, float]]] = {
    "native": native_step,
    "native-generate": native_answer,
    "torch": torch_step,
    "torch-generate": torch_answer,
    "choice": native_choice,
}

if __name__ == "__main__":
    main()
