"""Selection on real pLLMs: the starter models' own answers, StyleBank texts and the example users as personal texts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.bench.record import provenance
from xpert.core.abstention import novelty
from xpert.core.catalogue import Candidates, Catalogue
from xpert.core.data import PROBE_PROMPTS, stylebank
from xpert.core.encoder import Encoder
from xpert.core.errors import InputError
from xpert.core.selection import choose, select
from xpert.core.space import NEUTRAL, Matrix, StyleSpace
from xpert.core.texts import PersonalText, json_lines
from xpert.models.base import BaseModel
from xpert.models.explaining import explain_adapters
from xpert.models.names import listed
from xpert.models.probing import BASE, Progress

N_TEXTS = (5, 10, 20)
SIMILARITIES = (0.3, 0.5, 0.7, 0.8, 0.9)
N_PROBES = 20
"""Of the 40 unseen prompts, half are probes and half the user's."""


@dataclass(frozen=True, kw_only=True)
class StarterCatalogue:
    """The starter pLLMs, explained.

    Attributes
    ----------
    catalogue
        Their entries.
    answers
        Name -> answers to the 40 unseen prompts; the base's under ``""``.
    space, encoder
        What they were explained with.
    """

    catalogue: Catalogue
    answers: dict[str, list[str]] = field(repr=False)
    space: StyleSpace
    encoder: Encoder


def explain_starter(base: BaseModel, encoder: Encoder, *, cache: Path, progress: Progress | None = None) -> StarterCatalogue:
    """Explain all starter pLLMs with the default space and probes."""
    space = StyleSpace.default()
    adapters = {name.partition(":")[2]: name for name in listed("starter")}
    entries, answers = explain_adapters(base, adapters, space=space, encoder=encoder, cache=cache, progress=progress)
    return StarterCatalogue(catalogue=Catalogue.of(entries), answers=answers, space=space, encoder=encoder)


def run_starter_selection(starter: StarterCatalogue, *, trials: int = 400) -> dict[str, Any]:
    """Measure how often the pLLM of a style is chosen for real StyleBank texts of that style, prompts that no probe has."""
    bank = {(t.style, t.id): t.text for t in stylebank() if t.id in PROBE_PROMPTS}
    ids, styles = sorted(PROBE_PROMPTS), sorted({style for style, _ in bank})
    space, encoder = starter.space, starter.encoder
    made = {name: space.coefficients(encoder.encode([a or " " for a in row])) for name, row in starter.answers.items()}
    texts = {style: space.coefficients(encoder.encode([bank[style, i] for i in ids])) for style in styles}
    targets = [style for style in styles if style != NEUTRAL and style in made]

    def measure(n_texts: int, similarity: float, *, paired: bool) -> float:
        rng = np.random.default_rng(0)
        hits = 0
        for _ in range(trials):
            order = rng.permutation(len(ids))
            probes, prompts = order[:N_PROBES], order[N_PROBES : N_PROBES + n_texts]
            truth = targets[int(rng.integers(len(targets)))]
            n_own = max(round(similarity * n_texts), 1)
            sources = [truth] * n_own + [styles[i] for i in rng.integers(0, len(styles), n_texts - n_own)]
            user = np.array([texts[style][p] for style, p in zip(sources, prompts, strict=True)])
            found = select(
                user, _candidates(starter.catalogue.candidates, made, probes), base=made[BASE][prompts] if paired else None
            )
            hits += found.matches[0].name == truth
        return round(hits / trials, 4)

    return {
        "benchmark": "starter-selection",
        "trials": trials,
        "n_probes": N_PROBES,
        "candidates": len(made) - 1,
        "methods": {
            "coefficients": {
                "paired": {str(n): measure(n, 1.0, paired=True) for n in N_TEXTS},
                "unpaired": {str(n): measure(n, 1.0, paired=False) for n in N_TEXTS},
                "similarity": {f"{100 * s:.0f}": measure(20, s, paired=True) for s in SIMILARITIES},
                "similarity_unpaired": {f"{100 * s:.0f}": measure(20, s, paired=False) for s in SIMILARITIES},
            }
        },
        "strangers": {style: _stranger(starter.catalogue.candidates, texts[style], style) for style in targets},
        **provenance(seed=0),
    }


def _stranger(candidates: Candidates, texts: Matrix, style: str, *, draws: int = 100, n_texts: int = 20) -> dict[str, Any]:
    """Measure a style's misfit and abstention with its pLLMs in the catalogue and taken out of it."""
    out: dict[str, Any] = {}
    for where, part in (("in", candidates), ("out", _without(candidates, style))):
        rng = np.random.default_rng(0)
        found = [select(texts[rng.permutation(len(texts))[:n_texts]], part) for _ in range(draws)]
        low, high = np.quantile([f.misfit for f in found], (0.05, 0.95))
        out[where] = {
            "misfit": [round(float(low), 3), round(float(high), 3)],
            "abstain": round(sum(f.abstain for f in found) / draws, 3),
        }
    return out


def run_users(data: Path | None, starter: StarterCatalogue, *, draws: int = 100, n_texts: int = 20) -> dict[str, Any]:
    """Choose for every user of a file like users.jsonl, from all texts and from random draws of ``n_texts``."""
    users = read_users(data)
    candidates = starter.catalogue.candidates
    out = {}
    for user, texts in users.items():
        whole = choose(texts, candidates, space=starter.space, encoder=starter.encoder)
        raw = starter.encoder.encode([text.text for text in texts])
        rng = np.random.default_rng(0)
        firsts: Counter[str] = Counter()
        abstained, strange = 0, []
        for _ in range(draws):
            part = raw[rng.permutation(len(raw))[:n_texts]]
            found = select(starter.space.coefficients(part), candidates, novelty=novelty(starter.space, part, candidates))
            firsts[found.matches[0].name] += 1
            abstained += found.abstain
            strange.append((found.misfit, found.novelty or 0.0))
        out[user] = {
            "choice": whole.matches[0].name,
            "confidence": round(whole.confidence, 4),
            "abstain": whole.abstain,
            "reason": whole.reason,
            "similarity": round(whole.similarity, 3),
            "misfit": round(whole.misfit, 3),
            "novelty": round(whole.novelty or 0.0, 3),
            "words": [[w.word, round(w.coefficient, 3), round(w.lower, 3), round(w.upper, 3)] for w in whole.words[:5]],
            "draws": {
                "n_texts": n_texts,
                "first": {name: round(count / draws, 3) for name, count in firsts.most_common()},
                "abstain": round(abstained / draws, 3),
                "misfit_novelty": np.quantile(strange, (0.05, 0.95), axis=0).round(3).T.tolist(),
            },
        }
    return {"benchmark": "users", "bundled": data is None, "draws": draws, "users": out, **provenance(seed=0)}


def read_users(path: Path | None) -> dict[str, list[PersonalText]]:
    """Read texts by user from lines of ``{"user", "text", "prompt"?}``; by default the bundled example users.

    Raises
    ------
    FileFormatError, InputError
        The file cannot be used.
    """
    found: dict[str, list[PersonalText]] = {}
    if path is None:
        from xpert.core.data import users

        for own in users():
            found.setdefault(own.user, []).append(PersonalText(own.text, own.prompt))
        return found
    for place, row in json_lines(path):
        text, prompt = row.get("text"), row.get("prompt")
        if not isinstance(text, str) or not text.strip() or not isinstance(row.get("user"), (str, int)):
            raise InputError(f"Cannot use '{path}': {place} lacks a user or a text.")
        found.setdefault(str(row["user"]), []).append(PersonalText(text, prompt if isinstance(prompt, str) else None))
    if not found:
        raise InputError(f"'{path}' holds no texts.")
    return found


def _without(candidates: Candidates, style: str) -> Candidates:
    """Return the catalogue without a style's pLLM and the mixtures that have it."""
    kept = [i for i, name in enumerate(candidates.names) if style not in name.split("-")]
    return replace(
        candidates,
        names=tuple(candidates.names[i] for i in kept),
        coefficients=candidates.coefficients[kept],
        adapter_bytes=candidates.adapter_bytes[kept],
    )


def _candidates(whole: Candidates, made: dict[str, Matrix], probes: NDArray[np.int64]) -> Candidates:
    """Return the catalogue as it would be from these probes alone."""
    base = made[BASE][probes]
    single = np.array([made[name][probes] - base for name in whole.names])
    left = (single - single.mean(1, keepdims=True)).reshape(-1, single.shape[-1])
    return replace(
        whole,
        coefficients=single.mean(1),
        noise=left.T @ left / (len(left) - len(single)),
        base_coefficients=base.mean(0),
        n_probes=len(probes),
    )
