"""How good the pLLMs are on prompts they were not trained on: fluent, and in a style that the encoder recognizes.

Fluent: the base, told the style, gives the answer a mean negative log-likelihood a token below a limit. The limit is set
between two kinds of texts that need no model: real StyleBank answers, and garbled ones (halves of two different answers joined).
Recognized: among the 13 styles, the answer's difference to the StyleBank's neutral answer to the same prompt, in whitened
features, is nearest to the mean difference (style minus neutral) of the pLLM's own style over the training prompts. Real texts
go the same way, so that their share is what one can expect at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xpert.core.data import PROBE_PROMPTS, TRAIN_PROMPTS, StyledText, exemplars, stylebank
from xpert.core.encoder import Encoder
from xpert.core.space import NEUTRAL, build_space
from xpert.models.base import BaseModel
from xpert_starter.recipe.chat import END, told


@dataclass(frozen=True, kw_only=True)
class StyleFigures:
    """Figures of one pLLM on unseen prompts, all shares between 0 and 1.

    Attributes
    ----------
    fluent, recognized, both
        Shares of its answers.
    verbatim
        Share of its answers that are word for word the StyleBank's text in that style, which the base has learnt by heart.
    real_recognized
        Share of the real StyleBank texts of the same prompts that are recognized: the most one can expect.
    garbled_fluent
        Share of garbled texts that pass as fluent: how much the fluency figure can be wrong.
    """

    fluent: float
    recognized: float
    both: float
    verbatim: float
    real_recognized: float
    garbled_fluent: float


@dataclass
class Judge:
    """Judges answers to the probe prompts by fluency and style.

    Parameters
    ----------
    base
        The starter base.
    encoder
        What recognizes style.
    """

    base: BaseModel
    encoder: Encoder
    limit: float = field(init=False)

    def __post_init__(self) -> None:
        bank = stylebank()
        train = [t for t in (*bank, *exemplars()) if t.id in TRAIN_PROMPTS or t.id.startswith("p")]
        raw = self.encoder.encode([t.text for t in train])
        self.space = build_space(train, self.encoder, name="judge", raw=raw)
        kept = [i for i, t in enumerate(train) if t.id in TRAIN_PROMPTS]
        white = {(train[i].style, train[i].id): row for i, row in zip(kept, self.space.whiten(raw[kept]), strict=True)}
        self.styles = sorted({style for style, _ in white})
        ids = sorted(TRAIN_PROMPTS)
        self.means = np.array([np.mean([white[s, i] - white[NEUTRAL, i] for i in ids], 0) for s in self.styles])
        self.real = {s: [t for t in bank if t.style == s and t.id in PROBE_PROMPTS] for s in self.styles}
        self.prompts = [t.prompt for t in self.real[NEUTRAL]]
        everything = [t for row in self.real.values() for t in row]
        real = self.likelihood([(t.prompt, t.style, t.text) for t in everything])
        mixed = self.likelihood([(t.prompt, t.style, g) for row in self.real.values() for t, g in garble(row)])
        self.limit = float((np.quantile(real, 0.99) + np.quantile(mixed, 0.01)) / 2)
        self.controls = {"real_fluent": share(real < self.limit), "garbled_fluent": share(mixed < self.limit)}

    def figures(self, answers: Sequence[str], styles: Sequence[str]) -> StyleFigures:
        """Judge a pLLM's answers to ``self.prompts``; any of ``styles`` counts (two for a mixed pLLM)."""
        nll = np.min([self.likelihood(list(zip(self.prompts, [s] * len(answers), answers, strict=True))) for s in styles], 0)
        fluent = nll < self.limit
        recognized = np.isin(self.recognize(answers), styles)
        real = [np.isin(self.recognize([t.text for t in self.real[s]]), styles) for s in styles]
        verbatim = [[answer == t.text for answer, t in zip(answers, self.real[s], strict=True)] for s in styles]
        garbled = [(t.prompt, s, g) for s in styles for t, g in garble(self.real[s])]
        return StyleFigures(
            fluent=share(fluent),
            recognized=share(recognized),
            both=share(fluent & recognized),
            verbatim=share(np.any(verbatim, axis=0)),
            real_recognized=share(np.concatenate(real)),
            garbled_fluent=share(self.likelihood(garbled) < self.limit),
        )

    def recognize(self, texts: Sequence[str]) -> NDArray[np.str_]:
        """Name the style of every text, an answer to the prompt at its place in ``self.prompts``."""
        neutral = [t.text for t in self.real[NEUTRAL]]
        white, origin = (self.space.whiten(self.encoder.encode([t or " " for t in row])) for row in (texts, neutral))
        distance = (((white - origin)[:, None] - self.means) ** 2).sum(-1)
        named: NDArray[np.str_] = np.array(self.styles)[distance.argmin(1)]
        return named

    @torch.inference_mode()
    def likelihood(self, items: Sequence[tuple[str, str, str]]) -> NDArray[np.float64]:
        """Return the mean negative log-likelihood a token of (prompt, style told, text), in nats, shape (n_items,)."""
        tokenizer: Any = self.base.tokenizer
        out: list[float] = []
        for start in range(0, len(items), 64):
            batch = items[start : start + 64]
            prompts = [tokenizer.encode(told(prompt, style)) for prompt, style, _ in batch]
            texts = [tokenizer.encode(text + END)[:200] for _, _, text in batch]
            width = max(len(p) + len(t) for p, t in zip(prompts, texts, strict=True))
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            labels = torch.full_like(ids, -100)
            for i, (p, t) in enumerate(zip(prompts, texts, strict=True)):
                ids[i, : len(p) + len(t)] = torch.tensor(p + t)
                labels[i, len(p) : len(p) + len(t)] = torch.tensor(t)
            logits = self.base.model(input_ids=ids).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
            out += (loss.sum(1) / (labels[:, 1:] != -100).sum(1)).tolist()
        return np.array(out)


def garble(row: Sequence[StyledText]) -> list[tuple[StyledText, str]]:
    """Join the first half of every text to the second half of the next one's: fluent pieces, no answer."""
    out = []
    for i, item in enumerate(row):
        words, other = item.text.split(), row[(i + 1) % len(row)].text.split()
        out.append((item, " ".join(words[: len(words) // 2] + other[len(other) // 2 :])))
    return out


def share(flags: NDArray[np.bool_]) -> float:
    """Return the share of true flags, rounded."""
    return round(float(np.mean(flags)), 3)


def as_table(figures: Mapping[str, StyleFigures]) -> dict[str, dict[str, float]]:
    """Return figures as JSON-ready data."""
    return {name: asdict(value) for name, value in figures.items()}
