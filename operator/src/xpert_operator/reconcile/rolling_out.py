"""A style space's roll-out over the pLLMs that refer to it: whose turn it is, how far it is, when the version takes over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xpert_operator.reconcile.views import Members
from xpert_operator.resources import SpaceVersion

if TYPE_CHECKING:
    from xpert_operator.reconcile.space import SpaceObserved

ROLLING_OUT, SOME_FAILED, STALLED = "RollingOut", "SomeFailed", "Stalled"
N_NAMED = 5
ONE_OF = 10
"""One of so many pLLMs may fail, and one in any case, without holding the others up."""


def turns(before: Iterable[str], waiting: Sequence[str], most: int) -> list[str]:
    """Return whose turn it is: who has it keeps it until explained or failed, then the next ones come."""
    found = set(waiting)
    kept = [name for name in before if name in found]
    held = set(kept)
    free = max(0, most - len(kept))
    return sorted([*kept, *[name for name in waiting if name not in held][:free]])


def may_take_over(members: Members, explained: int) -> bool:
    """Tell whether a version may serve: all are explained in it, or nearly all, and nobody else can be."""
    return explained >= members.total or (_is_over(members, explained) and _is_bearable(members, len(members.failed), explained))


def failures(members: Members) -> dict[str, object]:
    """Return what the status says of those that failed: how many, and a handful of them."""
    return {"failed": len(members.failed), "failures": list(members.failed[:N_NAMED])}


def standing(seen: SpaceObserved, wanted: SpaceVersion, current: SpaceVersion | None) -> tuple[str, str]:
    """Return how far a version is, as reason and message."""
    members, explained = seen.members, seen.members.explained.get(wanted.digest, 0)
    every = explained >= members.total
    message = f"{'All ' if every else f'{explained} of '}{members.total} pLLMs are explained in version {wanted.version}"
    if not every and current and current != wanted and not may_take_over(members, explained):
        message += f"; version {current.version} serves until then"
    message += f".{_told(members)}"
    if _is_stalled(seen, explained):
        rest = f" Over {_most(members)} failed: mend or delete them, or take their spec.styleSpace away."
        return STALLED, message + rest
    # Those that are tried again do not count for a moment: told as an end of it, each attempt would be two events.
    return (SOME_FAILED if members.failed or _was(seen, SOME_FAILED) else ROLLING_OUT), message


def _is_stalled(seen: SpaceObserved, explained: int) -> bool:
    members = seen.members
    if _was(seen, STALLED):
        # Those that are tried again count as failed, or each attempt would be told as an end of the stall.
        return not _is_bearable(members, members.total - explained, explained)
    return _is_over(members, explained) and not _is_bearable(members, len(members.failed), explained)


def _was(seen: SpaceObserved, reason: str) -> bool:
    """Tell whether this version's roll-out stood so before."""
    before = next((found for found in seen.meta.conditions if found.type == "RolledOut"), None)
    return before is not None and before.reason == reason and before.observed_generation == seen.meta.generation


def _is_over(members: Members, explained: int) -> bool:
    return explained + len(members.failed) >= members.total


def _is_bearable(members: Members, failed: int, explained: int) -> bool:
    # A version in which nothing is explained would leave phones with an empty catalogue.
    return failed <= _most(members) and (explained > 0 or failed == 0)


def _most(members: Members) -> int:
    return max(1, members.total // ONE_OF)


def _told(members: Members) -> str:
    if not members.failed:
        return ""
    named = ", ".join(f"{found.name} ({found.reason})" for found in members.failed[:N_NAMED])
    more = len(members.failed) - N_NAMED
    return f" {len(members.failed)} cannot be: {named}{f' and {more} more' if more > 0 else ''}."
