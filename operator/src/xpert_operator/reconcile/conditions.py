"""Conditions: what holds, why, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from xpert_operator.reconcile.views import SOON
from xpert_operator.resources import Condition

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
WAITING, QUEUED, REQUEUED = "Waiting", "Queued", "QueuedAgain"
SHARE, LONGEST = 0.2, 60.0


def pause(condition: Condition, now: datetime) -> float:
    """Return the seconds after which to ask for a job again: a share of the time that it takes already.

    So a short one is noticed soon, and ten thousand long ones are not asked for every other second.
    """
    waited = (now - condition.last_transition_time).total_seconds()
    return min(max(SOON, waited * SHARE), LONGEST)


class Conditions:
    """The conditions of one resource while they are decided.

    Parameters
    ----------
    before
        As the status has them.
    generation
        Of the spec that is looked at.
    now
        When.
    """

    def __init__(self, before: Iterable[Condition], *, generation: int, now: datetime) -> None:
        self._before = {condition.type: condition for condition in before}
        self._generation, self._now = generation, now
        self._found: dict[str, Condition] = {}

    def holds(self, type_: str, reason: str, message: str = "") -> None:
        """Say that something holds."""
        self._set(type_, TRUE, reason, message)

    def fails(self, type_: str, reason: str, message: str) -> None:
        """Say that something does not hold."""
        self._set(type_, FALSE, reason, message)

    def works(self, type_: str, reason: str, message: str) -> None:
        """Say that a step towards it is taken; why the last one failed stays until this one has not."""
        before = self._before.get(type_)
        failed = before is not None and before.status == FALSE and before.reason not in {WAITING, QUEUED, REQUEUED, reason}
        if before is not None and failed and before.observed_generation == self._generation:
            self._found[type_] = before
        else:
            self._set(type_, FALSE, reason, message)

    def unknown(self, type_: str, reason: str, message: str) -> None:
        """Say that it cannot be told at the moment; what was known to hold stays so."""
        before = self._before.get(type_)
        if before is not None and before.status == TRUE and before.observed_generation == self._generation:
            self._found[type_] = before
        else:
            self._set(type_, UNKNOWN, reason, message)

    def rest(self, types: Iterable[str]) -> None:
        """Say of everything that was not decided that it waits, and of what was decided before nothing new."""
        for type_ in types:
            if type_ not in self._found and type_ in self._before:
                self._found[type_] = self._before[type_]
            elif type_ not in self._found:
                self._set(type_, FALSE, WAITING, "Other steps come first.")

    def is_true(self, type_: str) -> bool:
        """Tell whether something holds."""
        return type_ in self._found and self._found[type_].status == TRUE

    def changed(self, type_: str) -> bool:
        """Tell whether status or reason differ from before."""
        before, found = self._before.get(type_), self._found[type_]
        return before is None or (before.status, before.reason) != (found.status, found.reason)

    def was(self, type_: str, reason: str) -> bool:
        """Tell whether something had a reason before."""
        before = self._before.get(type_)
        return before is not None and before.reason == reason

    def get(self, type_: str) -> Condition:
        """Return one."""
        return self._found[type_]

    def list(self, order: Iterable[str]) -> list[Condition]:
        """Return all, in an order."""
        return [self._found[type_] for type_ in order if type_ in self._found]

    def _set(self, type_: str, status: str, reason: str, message: str) -> None:
        before = self._before.get(type_)
        since = before.last_transition_time if before and before.status == status else self._now
        self._found[type_] = Condition.model_validate(
            {
                "type": type_,
                "status": status,
                "reason": reason,
                "message": message[:4096],
                "last_transition_time": since,
                "observed_generation": self._generation,
            }
        )
