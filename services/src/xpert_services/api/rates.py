"""Counting requests against limits of rate.

The storage in memory of `limits` starts a thread for almost every request, which took longer than the rest of an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import limits

FEW = 1000


@dataclass
class _Window:
    number: int
    span: float
    before: int = 0
    now: int = 0


class Rates:
    """Sliding windows: what came in the window before counts by the part of it that is still less than one span ago.

    For one thread (an event loop) at a time.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}
        self._most = FEW

    def __len__(self) -> int:
        return len(self._windows)

    def hit(self, limit: limits.RateLimitItem, who: str) -> bool:
        """Count a request, unless it would be more than the limit; returns whether it was counted."""
        window, gone = self._window(limit, who)
        if window.before * (1 - gone) + window.now > limit.amount - 1:
            return False
        window.now += 1
        return True

    def wait(self, limit: limits.RateLimitItem, who: str) -> float:
        """Return the seconds until another request would be counted."""
        window, gone = self._window(limit, who)
        free = limit.amount - 1
        if window.now > free:  # not in this window any more
            return window.span * (2 - gone - free / window.now)
        left = 1 - (free - window.now) / window.before if window.before else 0.0
        return window.span * max(0.0, left - gone)

    def _window(self, limit: limits.RateLimitItem, who: str) -> tuple[_Window, float]:
        """Return the window that runs, and which part of it is over."""
        span = float(limit.get_expiry())
        number, gone = divmod(self._clock() / span, 1)
        found = self._windows.get((str(limit), who))
        if found is None:
            self._forget()
            found = self._windows[str(limit), who] = _Window(int(number), span)
        elif found.number != number:
            found.before = found.now if found.number == number - 1 else 0
            found.number, found.now = int(number), 0
        return found, gone

    def _forget(self) -> None:
        """Drop those who have not come for long, whenever there are twice as many as were left."""
        if len(self._windows) < self._most:
            return
        now = self._clock()
        self._windows = {key: window for key, window in self._windows.items() if now / window.span < window.number + 2}
        self._most = max(FEW, 2 * len(self._windows))
