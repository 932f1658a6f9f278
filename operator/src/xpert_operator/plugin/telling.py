"""How resources are told to people: conditions, ages, rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from xpert_operator.plugin.access import Body


def condition(body: Body, type_: str) -> dict[str, Any]:
    """Return one condition, empty where there is none."""
    return next((found for found in conditions(body) if found["type"] == type_), {})


def conditions(body: Body) -> list[dict[str, Any]]:
    """Return all conditions."""
    return list((body.get("status") or {}).get("conditions") or [])


def is_looked_at(body: Body) -> bool:
    """Whether the status speaks of the spec as it is now."""
    told = (body.get("status") or {}).get("observedGeneration")
    return bool(told and told >= body["metadata"].get("generation", 0))


def age(since: str | datetime | None, now: datetime | None = None) -> str:
    """Write how long ago something was, as kubectl does."""
    if since is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - time_of(since)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def time_of(written: str | datetime) -> datetime:
    """Read a time."""
    return written if isinstance(written, datetime) else datetime.fromisoformat(written)
