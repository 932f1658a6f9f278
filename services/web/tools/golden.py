"""Write what the page's logic is held to: numbers that Python computes from the same texts.

Run it again after statistics, style space or selection changed: ``./taskw web:fixtures``. Needs the fixtures' catalogue.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

import xpert
from xpert.core import data
from xpert.core.abstention import misfit, novelty
from xpert.core.catalogue import Candidates
from xpert.core.files import read_bytes, write_atomic
from xpert.core.posterior import mean_noise, posterior
from xpert.core.selection import Selection, choose, differences
from xpert.core.space import StyleSpace
from xpert.core.surface import SURFACE_NAMES, surface_statistics
from xpert.core.texts import PersonalText
from xpert.models.encoders import minilm_folder

WEB = Path(__file__).parents[1]
CATALOGUE = WEB / "mock" / "data" / "starter.xcat.safetensors"
USERS = ("u01", "u02", "u04", "u06", "u08", "u09", "u10")
N_TEXTS = 12
MAX_TOKENS = 256

ODD = (
    "",
    "   \n\t ",
    "ok",
    "Ünïcödé naïve café — “quoted” ‘single’ … and 42% off!!! #deal @you",
    "- one\n- two\n  3) three\n• four\n**bold** and (brackets); semicolons: here…",
    "LOL gonna be great 😀🎉 ☀️ right?? 'Tis thy day, thou'rt fine. YEAH let's go!",
    "日本語のテキスト and some English; ١٢٣ digits, ǅ title case, ß sharp",
    "lower start. Then... more?! a - b – c — d   double  spaces . end",
    "supercalifragilisticexpialidociousantidisestablishmentarianism " * 3,
    "Half vinegar, half water. Boil, wait, rinse. " * 40,
)


def main() -> None:
    """Compute everything once and write ``tests/golden.json``."""
    space, encoder, candidates = StyleSpace.default(), xpert.default_encoder(), xpert.load_compact(CATALOGUE)
    bank = [text.text for text in data.stylebank() if text.id in {"b125", "b150"}]
    texts = [*bank, *ODD]
    raw = encoder.encode(texts)
    golden = {
        "surface_names": list(SURFACE_NAMES),
        "space_digest": space.digest,
        "texts": texts,
        "tokens": _tokens(texts),
        "surface": [[float(f"{v:.7g}") for v in row] for row in surface_statistics(texts)],
        "embeddings": _packed(raw[:, : space.n_sentence]),
        "coefficients": _rounded(space.coefficients(raw)),
        "novelty": novelty(space, raw[: len(bank)], candidates),
        "users": [_user(user, space, encoder, candidates) for user in USERS],
    }
    write_atomic(WEB / "tests" / "golden.json", (json.dumps(golden, ensure_ascii=False, indent=None) + "\n").encode())


def _user(user: str, space: StyleSpace, encoder: xpert.JointEncoder, candidates: Candidates) -> dict[str, Any]:
    texts = [text.text for text in data.users() if text.user == user][:N_TEXTS]
    coefficients = space.coefficients(encoder.encode(texts))
    value = differences(coefficients, candidates, base=None).mean(0)
    noise = mean_noise(candidates, len(texts), paired=False)
    score, share = posterior(value, candidates, noise)
    selection = choose([PersonalText(text) for text in texts], candidates, space=space, encoder=encoder)
    return {
        "user": user,
        "texts": texts,
        "coefficients": _rounded(coefficients),
        "score": [float(v) for v in score - score.max()],
        "share": [float(v) for v in share],
        "misfit": misfit(value, candidates, noise),
        "selection": _selection(selection),
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        "choice": selection.choice,
        "abstain": selection.abstain,
        "reason": selection.reason,
        "confidence": selection.confidence,
        "margin": selection.margin,
        "similarity": selection.similarity,
        "expected_saving": selection.expected_saving,
        "misfit": selection.misfit,
        "novelty": selection.novelty,
        "matches": [[m.name, m.probability, m.similarity, m.adapter_bytes] for m in selection.matches],
        "words": [[w.word, w.coefficient, w.lower, w.upper] for w in selection.words],
    }


def _tokens(texts: list[str]) -> list[list[int]]:
    tokenizer = Tokenizer.from_str(read_bytes(minilm_folder() / "tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [tokenizer.encode(text).ids for text in texts]


def _packed(matrix: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(matrix, "<f4").tobytes()).decode()


def _rounded(matrix: NDArray[np.floating]) -> list[list[float]]:
    return [[round(float(v), 9) for v in row] for row in matrix]


if __name__ == "__main__":
    main()
