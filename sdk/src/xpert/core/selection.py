"""Choosing the nearest pLLM for a user's texts by coefficients alone (paper, section on model selection).

`xpert.core.posterior` gives every pLLM a probability and the user a similarity; here they become a ranking, an expected
saving, and the decision to abstain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xpert.core.abstention import MIN_MARGIN, MISFIT_LIMIT, NOVELTY_LIMIT, misfit, novelty, twins
from xpert.core.catalogue import Candidates
from xpert.core.encoder import Encoder
from xpert.core.errors import InputError, MismatchError
from xpert.core.explanation import WordCoefficient, bootstrap_interval
from xpert.core.posterior import mean_noise, posterior
from xpert.core.space import Matrix, StyleSpace
from xpert.core.texts import PersonalText

TEMPERATURE = 1.0
"""Softens the posterior so that confidence means share right; 1 is right, as `xpert bench selection-28 --plot` shows."""


@dataclass(frozen=True, kw_only=True)
class SavingModel:
    """What starting from a pLLM saves of the fine-tuning, by similarity, and what choosing costs.

    Attributes
    ----------
    points
        Pairs (similarity, share of the time from scratch that is saved), rising; the default is the paper's table, of
        Llama-3.2-1B on a phone. A tiny base saves less, as it soon learns from scratch what the choice would have given it.
    selection_cost
        Cost of choosing as a share of the time from scratch.
    """

    points: tuple[tuple[float, float], ...] = (
        (0.0, 0.0),
        (0.3, 0.055),
        (0.5, 0.164),
        (0.7, 0.42),
        (0.8, 0.664),
        (0.9, 0.817),
    )
    selection_cost: float = 0.02

    def saving(self, similarity: float) -> float:
        """Return the share of the time from scratch that is saved, the cost of choosing counted."""
        x, y = zip(*self.points, strict=True)
        return float(np.interp(similarity, x, y)) - self.selection_cost


@dataclass(frozen=True, kw_only=True)
class Match:
    """One ranked pLLM.

    Attributes
    ----------
    name
        The pLLM.
    probability
        That it is the nearest of the catalogue, if any is near.
    similarity
        Estimated share of the user's texts in its style, if it is the one.
    adapter_bytes
        Size of the download.
    """

    name: str
    probability: float
    similarity: float
    adapter_bytes: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The outcome of a selection.

    Attributes
    ----------
    matches
        All pLLMs, the likeliest first.
    confidence
        Calibrated probability that the first match is the nearest pLLM.
    margin
        Probability of the first match minus that of the second.
    similarity
        Estimated share of the user's texts in the first match's style.
    expected_saving
        Share of the fine-tuning time saved by starting from it, selection counted: what a `SavingModel` says, by default the
        paper's table for one base and phone, and no measurement on this one.
    misfit
        What the best match leaves unexplained over what it explains, see `misfit`.
    novelty
        Consistent manner of the texts that no word explains over what the words explain, see `novelty`; None if not asked.
    abstain
        Whether the base is the better start.
    reason
        Why it abstains, or why it does not.
    words
        The user's own coefficients with 95 % intervals over texts, strongest first.
    paired
        Whether the base's answers to the user's prompts were used.
    n_texts
        How many texts it saw.
    """

    matches: tuple[Match, ...]
    confidence: float
    margin: float
    similarity: float
    expected_saving: float
    misfit: float
    novelty: float | None
    abstain: bool
    reason: str
    words: tuple[WordCoefficient, ...] = field(repr=False)
    paired: bool
    n_texts: int

    @property
    def choice(self) -> str | None:
        """Name of the chosen pLLM, or None for the base."""
        return None if self.abstain else self.matches[0].name


def select(
    texts: NDArray[np.floating],
    candidates: Candidates,
    *,
    base: NDArray[np.floating] | None = None,
    novelty: float | None = None,
    saving: SavingModel | None = None,
    min_confidence: float = 0.5,
    seed: int = 0,
) -> Selection:
    """Choose the pLLM nearest to a user's texts, or abstain.

    Parameters
    ----------
    texts
        Coefficients of the texts, ``space.coefficients(encoder.encode(…))``, shape (n_texts, n_axes).
    candidates
        The catalogue: ``catalogue.candidates`` or ``load_compact(path)``.
    base
        Coefficients of the base's answers to the same prompts, shape (n_texts, n_axes). Without, the base's mean over the
        probes stands in, and no LLM has to run.
    novelty
        What the words miss in these texts, as `novelty` measures it; None leaves that check out.
    saving
        What starting from a pLLM saves.
    min_confidence
        Probability of the first match, and of those that cannot be told from it, below which the choice is a toss-up.
    seed
        Bootstrap of the intervals.

    Raises
    ------
    InputError
        There are no texts, or a number is not finite.
    MismatchError
        The coefficients belong to another space.
    """
    single = differences(texts, candidates, base=base)
    value, n = single.mean(0), len(single)
    noise = mean_noise(candidates, n, paired=base is not None)
    score, share = posterior(value, candidates, noise)
    probability = np.exp((score - score.max()) / TEMPERATURE)
    probability /= probability.sum()
    order = np.argsort(-probability, kind="stable")
    matches = tuple(
        Match(
            name=candidates.names[i],
            probability=float(probability[i]),
            similarity=float(share[i]),
            adapter_bytes=int(candidates.adapter_bytes[i]),
        )
        for i in order
    )
    first = matches[0]
    margin = first.probability - (matches[1].probability if len(matches) > 1 else 0.0)
    alike = twins(candidates, int(order[0]))
    model = saving or SavingModel()
    expected = sum(m.probability * model.saving(m.similarity) for m, i in zip(matches, order, strict=True) if alike[i])
    rival = next((m for m, i in zip(matches, order, strict=True) if not alike[i]), None)
    fit = misfit(value, candidates, noise)
    lead = (float(probability[alike].sum()), rival.probability if rival else 0.0)
    doubt = lead[0] < min_confidence or lead[0] - lead[1] < MIN_MARGIN
    reason = _reason_to_abstain(first, rival, expected, fit, novelty, doubt=doubt)
    return Selection(
        matches=matches,
        confidence=first.probability,
        margin=margin,
        similarity=first.similarity,
        expected_saving=expected,
        misfit=fit,
        novelty=novelty,
        abstain=bool(reason),
        reason=reason or f"'{first.name}' is the nearest, and near enough to start from.",
        words=user_words(single, candidates.words, seed=seed),
        paired=base is not None,
        n_texts=n,
    )


def choose(
    texts: Sequence[PersonalText],
    candidates: Candidates,
    *,
    space: StyleSpace,
    encoder: Encoder,
    base_answers: Sequence[str] | None = None,
    saving: SavingModel | None = None,
    min_confidence: float = 0.5,
    seed: int = 0,
) -> Selection:
    """Choose the pLLM nearest to a user's texts, or abstain; the texts are encoded here and go nowhere.

    Parameters
    ----------
    texts
        The user's texts.
    candidates
        The catalogue: ``catalogue.candidates`` or ``load_compact(path)``.
    space, encoder
        The catalogue's style space, and an encoder of the space's name on any engine.
    base_answers
        The base's answers to the texts' prompts, if they are there: the choice is surer with them.
    saving, min_confidence, seed
        See `select`.

    Raises
    ------
    MismatchError
        Space, encoder and catalogue do not belong together.
    InputError
        There are no texts.
    """
    candidates.check_space(space)
    space.check_encoder(encoder)
    if not texts:
        raise InputError("There are no texts to choose by. Give at least one, better 10 or more.")
    raw = encoder.encode([text.text for text in texts])
    return select(
        space.coefficients(raw),
        candidates,
        base=None if base_answers is None else space.coefficients(encoder.encode(base_answers)),
        novelty=novelty(space, raw, candidates),
        saving=saving,
        min_confidence=min_confidence,
        seed=seed,
    )


def differences(texts: NDArray[np.floating], candidates: Candidates, *, base: NDArray[np.floating] | None = None) -> Matrix:
    """Return a user's coefficients text by text, shape (n_texts, n_axes), as differences to the base.

    Raises
    ------
    InputError
        There are no texts, or a number is not finite.
    MismatchError
        The coefficients belong to another space, or texts and base answers differ in number.
    """
    texts = np.asarray(texts, np.float64)
    k = len(candidates.words)
    if texts.ndim != 2 or texts.shape[1] != k:
        raise MismatchError(
            f"The texts have coefficients of shape {texts.shape}, the catalogue has {k} words. Use its style space."
        )
    if len(texts) == 0:
        raise InputError("There are no texts to choose by. Give at least one, better 10 or more.")
    if base is not None and np.shape(base) != texts.shape:
        raise MismatchError(f"{len(texts)} texts and {len(base)} answers of the base: expected one answer a text.")
    single = texts - (candidates.base_coefficients if base is None else np.asarray(base, np.float64))
    if not np.isfinite(single).all():
        raise InputError("A text's coefficients are NaN or infinite: the encoder is broken. Check its model files.")
    return single


def user_words(single: Matrix, words: tuple[str, ...], *, seed: int = 0) -> tuple[WordCoefficient, ...]:
    """Describe a user by words with 95 % intervals over the texts, strongest first."""
    value = single.mean(0)
    lower, upper = bootstrap_interval(single, seed=seed)
    return tuple(
        WordCoefficient(
            word=words[i],
            coefficient=float(value[i]),
            lower=float(lower[i]),
            upper=float(upper[i]),
            held_up=bool(lower[i] * upper[i] > 0),
        )
        for i in np.argsort(-np.abs(value), kind="stable")
    )


def _reason_to_abstain(first: Match, rival: Match | None, expected: float, fit: float, new: float | None, *, doubt: bool) -> str:
    if fit > MISFIT_LIMIT:
        return (
            f"Near nothing: '{first.name}' is the best match, but what it leaves unexplained is {fit:.2f} of what it "
            f"explains; up to {MISFIT_LIMIT} is a known style. Start from the base, or from a merge."
        )
    if new is not None and new > NOVELTY_LIMIT:
        return (
            f"Near nothing: the texts share a manner that no word describes, {new:.2f} of what the words describe; up to "
            f"{NOVELTY_LIMIT} is a known style. Start from the base, or build a space with exemplars of this style."
        )
    if doubt:
        second = f", '{rival.name}' {rival.probability:.0%}" if rival else ""
        return f"Too close to call: '{first.name}' has {first.probability:.0%}{second}. Give more texts, or merge the two."
    if expected <= 0:
        return (
            f"It would not pay: about {first.similarity:.0%} of the texts are in the style of '{first.name}', which saves "
            "less than choosing costs. Start from the base."
        )
    return ""
