"""The numbers that the explorer's TypeScript is held to are the ones that Python computes today."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xpert.core.abstention import misfit
from xpert.core.catalogue import load_compact
from xpert.core.posterior import mean_noise, posterior
from xpert.core.selection import differences
from xpert.core.space import StyleSpace
from xpert.core.surface import SURFACE_NAMES, surface_statistics

WEB = Path(__file__).parents[2] / "services" / "web"
GOLDEN = json.loads((WEB / "tests" / "golden.json").read_text(encoding="utf-8"))
RENEW = "Write them anew with ./taskw web:fixtures, and follow in services/web/src/selection."


def test_statistics_and_style_space_are_the_present_ones() -> None:
    assert GOLDEN["surface_names"] == list(SURFACE_NAMES), RENEW
    assert GOLDEN["space_digest"] == StyleSpace.default().digest, RENEW
    assert np.allclose(GOLDEN["surface"], surface_statistics(GOLDEN["texts"]), rtol=1e-5, atol=1e-6), RENEW


@pytest.mark.parametrize("user", GOLDEN["users"], ids=lambda user: user["user"])
def test_the_posterior_is_the_present_one(user: dict[str, list[float]]) -> None:
    candidates = load_compact(WEB / "mock" / "data" / "starter.xcat.safetensors")
    coefficients = np.array(user["coefficients"])
    value = differences(coefficients, candidates, base=None).mean(0)
    noise = mean_noise(candidates, len(coefficients), paired=False)
    score, share = posterior(value, candidates, noise)
    # The coefficients were rounded before they were written.
    assert np.allclose(user["score"], score - score.max(), rtol=1e-3, atol=0.05), RENEW
    assert np.allclose(user["share"], share, atol=2e-3), RENEW
    assert user["misfit"] == pytest.approx(misfit(value, candidates, noise), abs=2e-3), RENEW
