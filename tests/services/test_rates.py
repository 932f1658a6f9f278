"""Limits of rate: windows that slide, and what they keep."""

from __future__ import annotations

import limits
import pytest

from xpert_services.api.rates import FEW, Rates


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_slides() -> None:
    clock, limit = Clock(), limits.parse("4/minute")
    clock.now = 1020.0  # a minute's window begins there
    rates = Rates(clock)
    assert [rates.hit(limit, "a") for _ in range(5)] == [True, True, True, True, False]
    assert rates.hit(limit, "b")
    wait = rates.wait(limit, "a")
    # All four count until this window ends, then less and less: three and a quarter of the next one is over.
    assert wait == pytest.approx(75.0)
    clock.now += wait - 0.1
    assert not rates.hit(limit, "a")
    clock.now += 0.2
    assert rates.hit(limit, "a")
    assert not rates.hit(limit, "a")
    assert rates.wait(limit, "a") == pytest.approx(15.0, abs=0.2)
    clock.now += 3600
    assert rates.wait(limit, "a") == 0.0
    assert [rates.hit(limit, "a") for _ in range(5)] == [True, True, True, True, False]


def test_who_does_not_come_again_is_forgotten() -> None:
    clock, limit = Clock(), limits.parse("4/minute")
    rates = Rates(clock)
    for address in range(5 * FEW):
        rates.hit(limit, str(address))
        clock.now += 1.0
    assert len(rates) <= FEW


def test_who_is_counted_is_not_forgotten_for_the_sake_of_others() -> None:
    clock, limit = Clock(), limits.parse("1/hour")
    rates = Rates(clock)
    assert rates.hit(limit, "first")
    for address in range(3 * FEW):
        rates.hit(limit, str(address))
    assert not rates.hit(limit, "first")
