"""When selection abstains: what is near nothing, what no word describes, what is a toss-up and what does not pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xpert.core.abstention import MISFIT_LIMIT, NOVELTY_LIMIT, misfit, novelty, twins
from xpert.core.catalogue import Catalogue
from xpert.core.data import users
from xpert.core.encoder import Vectors
from xpert.core.posterior import centre, mean_noise
from xpert.core.selection import SavingModel, select
from xpert.core.space import StyleSpace


def test_an_unknown_style_abstains(catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors]) -> None:
    without = Catalogue.of([e for e in catalogue.entries if e.name != "tweet"])
    found = select(space.coefficients(raw["tweet"][20:]), without.candidates)
    assert found.abstain
    assert found.choice is None
    assert "Near nothing" in found.reason


def test_neutral_texts_do_not_pay(catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors]) -> None:
    found = select(space.coefficients(raw["neutral"][20:]), catalogue.candidates)
    assert found.abstain


def test_abstention_by_doubt_and_by_cost(catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors]) -> None:
    texts = space.coefficients(raw["poetic"][20:])
    doubt = select(texts, catalogue.candidates, min_confidence=1.1)
    assert "Too close to call" in doubt.reason
    cost = select(texts, catalogue.candidates, saving=SavingModel(selection_cost=0.9))
    assert "would not pay" in cost.reason
    strange = select(texts, catalogue.candidates, novelty=5.0)
    assert "no word describes" in strange.reason


def test_novelty_is_small_for_known_and_large_for_strange_manners(
    catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors], encoder: object
) -> None:
    known = novelty(space, raw["tweet"][20:], catalogue.candidates)
    odd = encoder.encode([f"well; (so; ({i}); and; (so))); #; ##" * 4 for i in range(20)])  # type: ignore[attr-defined]
    assert known < 0.2
    assert novelty(space, odd, catalogue.candidates) > NOVELTY_LIMIT
    assert novelty(space, raw["poetic"][:1], catalogue.candidates) == 0


def test_a_style_written_more_strongly_is_no_misfit(catalogue: Catalogue) -> None:
    candidates = catalogue.candidates
    noise = mean_noise(candidates, 1000, paired=True)
    middle = centre(candidates)
    tweet = candidates.coefficients[candidates.names.index("tweet")] - middle
    assert misfit(middle + 1.4 * tweet, candidates, noise) == 0
    assert misfit(middle + 3 * tweet, candidates, noise) > 0.5
    assert misfit(middle - tweet, candidates, noise) > MISFIT_LIMIT


def test_a_few_odd_texts_are_no_manner(catalogue: Catalogue, space: StyleSpace, encoder: object) -> None:
    """Two users have single texts with statistics 13 and 18 standard deviations off; one has a manner of his own throughout."""
    measured = {}
    for user in ("u03", "u06", "u10"):
        own = encoder.encode([t.text for t in users() if t.user == user])  # type: ignore[attr-defined]
        measured[user] = novelty(space, own, catalogue.candidates)
    assert max(measured["u03"], measured["u06"]) < NOVELTY_LIMIT < 1 < measured["u10"]


def test_two_pllms_of_one_style_are_twins_and_two_near_styles_a_toss_up(
    catalogue: Catalogue, space: StyleSpace, raw: dict[str, Vectors]
) -> None:
    candidates = catalogue.candidates
    texts = space.coefficients(raw["poetic"][20:])
    poetic = candidates.names.index("poetic")
    copies = np.r_[np.arange(len(candidates.names)), poetic]
    doubled = replace(
        candidates,
        names=(*candidates.names, "poetic-2"),
        coefficients=candidates.coefficients[copies],
        adapter_bytes=candidates.adapter_bytes[copies],
    )
    alike = twins(doubled, poetic)
    assert [name for name, same in zip(doubled.names, alike, strict=True) if same] == ["poetic", "poetic-2"]
    found = select(texts, doubled)
    assert found.margin == pytest.approx(0)
    assert found.choice in ("poetic", "poetic-2")  # either will do: no doubt, the whole saving
    assert found.expected_saving == pytest.approx(select(texts, candidates).expected_saving, rel=0.1)

    metric = np.linalg.inv(mean_noise(doubled, 20, paired=False))
    middle = doubled.coefficients[poetic] - centre(doubled)
    aside = np.random.default_rng(0).normal(size=len(middle))
    aside -= middle * (aside @ metric @ middle) / (middle @ metric @ middle)  # so that both are equally far from between
    aside *= 3 / (aside @ metric @ aside) ** 0.5  # clearly two styles by the probes' noise, yet near
    shift = np.zeros_like(doubled.coefficients)
    shift[poetic], shift[-1] = aside, -aside
    near = replace(doubled, coefficients=doubled.coefficients + shift)
    between = select(np.tile(doubled.coefficients[poetic], (20, 1)) + near.base_coefficients, near, min_confidence=0.3)
    assert not twins(near, poetic)[-1]
    assert between.choice is None
    assert "Too close to call" in between.reason
