"""Write tests/golden/*.json: what Python finds for real and odd texts, and what every other implementation is held to.

Run it after a change of the method: ./taskw golden (some minutes). The files say how near an implementation must come.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpert.core.catalogue import Candidates, load_compact
from xpert.core.cells import CellIndex
from xpert.core.data import stylebank, users
from xpert.core.encoder import JointEncoder, SentenceEncoder, Vectors
from xpert.core.files import write_atomic
from xpert.core.merging import solve_merge
from xpert.core.selection import Selection, choose
from xpert.core.space import StyleSpace
from xpert.core.surface import SURFACE_NAMES, surface_statistics
from xpert.core.texts import PersonalText

FOLDER = Path(__file__).parents[1] / "golden"
CATALOGUE = Path(__file__).parents[2] / "services" / "web" / "mock" / "data" / "starter.xcat.safetensors"
INDEX = FOLDER / "index.cells.safetensors"
USER_TEXTS = 20
COMMAND = "./taskw golden"

ODD = (
    "",
    " \t\n",
    "\r\n",
    "One.\r\n\r\n- two\r\n- three\r\n1. four\r\n",
    "שלום עולם! מה שלומך היום? הכול טוב, תודה.",
    "مرحبا بالعالم؛ كيف حالك اليوم؟ ١٢٣٤ شكرا.",
    "I said “hé\u0301llo” — e\u0301te\u0301 n\u0303o, Z\u0351\u036balgo\u0300.",
    "👩‍👩‍👧 so happy!!! 🎉🎉 #blessed ☕ lol",
    "東京は大きい。とても、楽しいです!",
    "ΟΔΥΣΣΕΥΣ ΚΑΙ ΣΟΦΙΑ. ǅ İstanbul DIYARBAKIR ﬁne straße STRASSE.",
    "'Tis thou, o rock’n’roll; let's don’t — 'quoted' words''",
    "½ ² Ⅷ ٣. ४) \u2028line\u2029paragraph\u0085next\x1cfield",
    "no stop no comma no capital",
    "WHY ARE YOU SHOUTING?! STOP... NOW…",
    "**Bold** ** ***\n\t  12) item\n  • bullet\n1234. no item",
)
LONG = {"text": "Half vinegar, half water. Boil, wait, rinse. ", "times": 3000}


def odd_texts() -> list[str]:
    """The odd texts, with a very long one."""
    return [*ODD, str(LONG["text"]) * int(str(LONG["times"]))]


def user_texts() -> dict[str, list[str]]:
    """The first texts of every example user."""
    found: dict[str, list[str]] = {}
    for text in users():
        found.setdefault(text.user, []).append(text.text)
    return {user: texts[:USER_TEXTS] for user, texts in sorted(found.items())}


def described(found: Selection, value: np.ndarray[Any, Any], candidates: Candidates) -> dict[str, Any]:
    """What a selection, and a merge for the same user, come to."""
    merge = solve_merge(value, candidates, n_texts=found.n_texts, paired=found.paired)
    return {
        "choice": found.choice,
        "abstain": found.abstain,
        "reason": found.reason.split(":")[0],
        "confidence": found.confidence,
        "margin": found.margin,
        "similarity": found.similarity,
        "expected_saving": found.expected_saving,
        "misfit": found.misfit,
        "novelty": found.novelty,
        "paired": found.paired,
        "n_texts": found.n_texts,
        "first": found.matches[0].name,
        "adapter_bytes": found.matches[0].adapter_bytes,
        "words": {w.word: [w.coefficient, w.lower, w.upper] for w in found.words},
        "merge": {
            "sources": {s.name: s.weight for s in merge.recipe.sources},
            "distance": merge.distance,
            "single": merge.single,
            "single_distance": merge.single_distance,
            "wins": merge.wins,
        },
    }


def surface() -> dict[str, Any]:
    """Statistics of odd texts and of every 40th of the StyleBank."""
    texts = [t.text for t in stylebank()[::40]]
    rows = surface_statistics([*texts, *odd_texts()]).tolist()
    tolerance = {"relative": 1e-6, "absolute": 1e-7}
    return {
        "command": COMMAND,
        "tolerance": tolerance,
        "names": list(SURFACE_NAMES),
        "long": LONG,
        "odd": list(ODD),
        "rows": rows,
    }


def choice(encoder: JointEncoder) -> dict[str, Any]:
    """Embeddings, coefficients, and the choice of every example user, without and with answers of a base."""
    space, candidates = StyleSpace.default(), load_compact(CATALOGUE)
    neutral = [t.text for t in stylebank() if t.style == "neutral"][:USER_TEXTS]
    raw = encoder.encode(neutral[:4] + odd_texts())
    found = {}
    for user, texts in user_texts().items():
        personal = [PersonalText(text) for text in texts]
        for name, base in ((user, None), (f"{user}, paired", neutral[: len(texts)])):
            selection = choose(personal, candidates, space=space, encoder=encoder, base_answers=base, seed=1)
            vectors = space.coefficients(encoder.encode(texts))
            against = candidates.base_coefficients if base is None else space.coefficients(encoder.encode(base))
            found[name] = described(selection, (vectors - against).mean(0), candidates)
    return {
        "command": COMMAND,
        # float32 programs of other compilers; choices, names and sources must be the same.
        "tolerance": {"cosine": 0.99999, "coefficients": 2e-4, "numbers": 2e-3, "weights": 2e-3},
        "encoder": encoder.name,
        "space_digest": space.digest,
        "embeddings": [[round(float(x), 7) for x in row] for row in raw[:, : encoder.n_sentence]],
        "coefficients": [[round(float(x), 7) for x in row] for row in space.coefficients(raw)],
        "users": found,
    }


def cells() -> dict[str, Any]:
    """Nearest cells of points by chance in a committed index, which stands beside the JSON."""
    index = CellIndex.load(INDEX)
    values = np.round(np.random.default_rng(1).normal(0, 0.3, (100, len(index.words))), 6)
    found = index.nearest(values).tolist()
    return {
        "command": COMMAND,
        "tolerance": {},
        "values": values.tolist(),
        "cells": found,
        "names": [index.cell_name(i) for i in found],
    }


def documents(encoder: JointEncoder) -> dict[str, dict[str, Any]]:
    """All golden files by name, as they are written."""
    return {"surface.json": surface(), "choice.json": choice(encoder), "cells.json": cells()}


class Remembering:
    """A sentence encoder that embeds each text once: the users' texts are asked for again and again."""

    def __init__(self, inner: SentenceEncoder) -> None:
        self.inner, self.name, self.dim = inner, inner.name, inner.dim
        self._held: dict[str, Any] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._held]
        self._held.update(zip(new, self.inner.encode(new) if new else (), strict=True))
        return np.array([self._held[text] for text in texts], np.float32)


def minilm() -> JointEncoder:
    """MiniLM by torch: what all other engines are compared with."""
    from xpert.models.encoders import MINILM, SentenceTransformerEncoder, minilm_folder

    return JointEncoder(Remembering(SentenceTransformerEncoder(minilm_folder(), label=MINILM)))


def write(folder: Path, found: dict[str, dict[str, Any]]) -> Sequence[Path]:
    """Write the files; returns their paths."""
    paths = []
    for name, value in found.items():
        # A number a line would be twenty thousand lines to scroll past in a review.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / name, (text.replace("]], ", "]],\n") + "\n").encode())
        paths.append(folder / name)
    return paths


if __name__ == "__main__":
    for path in write(FOLDER, documents(minilm())):
        print(f"Wrote {path}.")
