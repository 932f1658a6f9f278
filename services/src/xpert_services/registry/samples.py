"""Sample answers: what base and pLLM answered to the same probes, as explaining keeps it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, write_json
from xpert.wire import Page, SampleAnswer
from xpert_services.store import Store

PROBES = "xpert-probes"
# As xpert.models.probing writes them, which loads torch: the API does not.
ANSWERS = "xpert-answers"


@dataclass(frozen=True)
class KeptAnswers:
    """Digests of the artifacts that hold probes and answers."""

    probes: str
    base: str
    pllm: str


def put_probes(store: Store, probes: Sequence[str]) -> str:
    """Store the probes; returns the digest of their artifact."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / "probes.json"
        write_json(path, {"format": PROBES, "version": 1, "probes": list(probes)})
        return store.artifacts.put(path, kind="probes").digest


def read_probes(store: Store, digest: str) -> tuple[str, ...]:
    """Read what `put_probes` stored."""
    return tuple(_read(store, digest, PROBES)["probes"])


def read_samples(store: Store, kept: KeptAnswers) -> list[SampleAnswer]:
    """Read probes and answers.

    Raises
    ------
    FileFormatError
        They do not belong together.
    """
    probes = read_probes(store, kept.probes)
    base, pllm = (_read(store, digest, ANSWERS)["answers"] for digest in (kept.base, kept.pllm))
    if not len(probes) == len(base) == len(pllm):
        raise FileFormatError(f"{len(probes)} probes have {len(base)} and {len(pllm)} answers. Explain the pLLM anew.")
    return [SampleAnswer(prompt=p, base=b or "", pllm=own or "") for p, b, own in zip(probes, base, pllm, strict=True)]


def page_of(samples: Sequence[SampleAnswer], *, after: str | None, limit: int) -> Page[SampleAnswer]:
    """Return at most ``limit`` answers after the one with the number ``after``, counted from 1.

    Raises
    ------
    InputError
        ``after`` is no number.
    """
    if after and not after.isdecimal():
        raise InputError(f"{after!r} is no answer to go on after: expected a number, as 'next' of the page before says.")
    start = int(after or 0)
    end = start + limit
    return Page[SampleAnswer](items=list(samples[start:end]), next=str(end) if end < len(samples) else None)


def _read(store: Store, digest: str, kind: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        return read_json(store.artifacts.download(digest, Path(folder) / "read.json"), format=kind, max_version=1)
