"""Write what the explorer's tests are fed: answers of a server with the starter pLLMs, made by the SDK on the real models.

Run it again after the method, the wire format or the starter models changed: ``./taskw web:fixtures``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel as Body

import xpert
from xpert import wire
from xpert.core import data
from xpert.core.explanation import Explanation
from xpert.core.files import cache_folder, sha256_hex, write_atomic
from xpert.core.space import StyleSpace
from xpert.models.explaining import explain_adapters
from xpert.models.names import listed

OUT = Path(__file__).parents[1] / "mock" / "data"
BASE = "starter"
N_ANSWERS = 6
START = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


def main() -> None:
    """Explain all starter pLLMs and write the answers, records and catalogue."""
    base, space, encoder = xpert.load_base("starter:base"), StyleSpace.default(), xpert.default_encoder()
    sources = {source.partition(":")[2]: source for source in listed("starter")}
    entries, answers = explain_adapters(base, sources, space=space, encoder=encoder, cache=cache_folder() / "answers")
    catalogue = xpert.Catalogue.of(entries)
    OUT.mkdir(parents=True, exist_ok=True)
    compact = OUT / f"{BASE}.xcat.safetensors"
    catalogue.export_compact(compact)
    version = sha256_hex(compact.read_bytes())
    jobs = [_job(e, i) for i, e in enumerate(entries)]
    _write("bases", [wire.Base(name=BASE, source="starter:base", digest=base.digest, created=START)])
    _write("spaces", [_space(space)])
    _write("jobs", jobs)
    _write("pllms", [*(_pllm(e, i, jobs[i].id) for i, e in enumerate(entries)), *_others(entries[0])])
    _write("catalogues", [_info(catalogue, version, compact.stat().st_size)])
    prompts = list(data.probes())
    _plain("answers", {name: _samples(prompts, answers[""], answers[name]) for name in sources})


def _pllm(entry: Explanation, i: int, job: str) -> wire.Pllm:
    words = [wire.WordBody(**vars(word)) for word in entry.top(len(entry.words))]
    return wire.Pllm(
        name=entry.name,
        base=BASE,
        base_digest=entry.base_digest,
        adapter_digest=entry.adapter_digest,
        adapter_bytes=entry.adapter_bytes,
        files={
            "adapter_config.json": sha256_hex(f"{entry.name} config".encode()),
            "adapter_model.safetensors": entry.adapter_digest,
        },
        created=START + timedelta(minutes=7 * i),
        job=job,
        explanation=wire.ExplanationBody(
            space=entry.space_digest,
            words=words,
            strength=entry.strength,
            residual_share=entry.residual_share,
            n_probes=entry.n_probes,
        ),
    )


def _others(like: Explanation) -> list[wire.Pllm]:
    """Return a pLLM that waits for its explanation and one that was refused: states that a person must see."""
    kept = {"base": BASE, "base_digest": like.base_digest, "adapter_bytes": like.adapter_bytes, "files": {}, "created": START}
    refused = "Tensor 'layers.3.q_proj.lora_B' holds NaN or infinity. Train the adapter again with a smaller learning rate."
    return [
        wire.Pllm(name="old-timer", adapter_digest=sha256_hex(b"old-timer"), quarantined=refused, **kept),
        wire.Pllm(name="support-desk", adapter_digest=sha256_hex(b"support-desk"), job=sha256_hex(b"support-desk job"), **kept),
    ]


def _job(entry: Explanation, i: int) -> wire.Job:
    at = START + timedelta(minutes=7 * i, seconds=20)
    return wire.Job(
        id=sha256_hex(f"explain {entry.adapter_digest} {entry.space_digest}".encode()),
        kind="explain",
        state="succeeded",
        done=entry.n_probes,
        total=entry.n_probes,
        attempts=1,
        subject=f"{BASE}/{entry.name}",
        created=at,
        updated=at + timedelta(seconds=41 + 3 * i),
    )


def _space(space: StyleSpace) -> wire.Space:
    path = Path(xpert.__file__).parent / "data" / "default.space.safetensors"
    return wire.Space(
        digest=space.digest,
        artifact=sha256_hex(path.read_bytes()),
        name=space.name,
        version=space.version,
        encoder=space.encoder,
        words=list(space.words),
        created=START,
    )


def _info(catalogue: xpert.Catalogue, version: str, n_bytes: int) -> wire.CatalogueInfo:
    return wire.CatalogueInfo(
        base=BASE,
        base_digest=catalogue.base_digest,
        space=catalogue.space_digest,
        version=version,
        n_pllms=len(catalogue.entries),
        n_bytes=n_bytes,
        pllms=[entry.name for entry in catalogue.entries],
    )


def _samples(prompts: Sequence[str], base: Sequence[str], pllm: Sequence[str]) -> list[dict[str, str]]:
    step = len(prompts) // N_ANSWERS
    return [{"prompt": prompts[i], "base": base[i], "pllm": pllm[i]} for i in range(0, step * N_ANSWERS, step)]


def _write(name: str, bodies: Sequence[Body]) -> None:
    _plain(name, [body.model_dump(mode="json") for body in bodies])


def _plain(name: str, value: Any) -> None:
    write_atomic(OUT / f"{name}.json", (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
