"""`BaseModel`: registered on the server, with the digest that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from xpert.wire import Base
from xpert_operator.reconcile.conditions import Conditions
from xpert_operator.reconcile.keeping import IN_USE, keeping, say_users
from xpert_operator.reconcile.pllm_seen import plain
from xpert_operator.reconcile.views import LATER, REASONS, SELDOM, Action, AddBase, Event, Meta, Plan, Problem
from xpert_operator.resources import BaseModelSpec, BaseModelStatus

TYPES = ("Stored", "Ready")
BasePlan = Plan[BaseModelStatus]


@dataclass(frozen=True, kw_only=True)
class BaseObserved:
    """All that the decision depends on.

    Attributes
    ----------
    meta, spec, status
        The resource.
    users
        What refers to it and is not being deleted.
    server
        What the server has under its name, or why that is not known.
    failure
        Why the last action failed.
    now
        The time.
    """

    meta: Meta
    spec: BaseModelSpec
    status: BaseModelStatus
    users: tuple[str, ...] = ()
    server: Base | Problem | None = None
    failure: Problem | None = None
    now: datetime


def reconcile_base(seen: BaseObserved) -> BasePlan:
    """Decide on the next step."""
    kept = keeping(seen.meta, seen.users)
    if kept is not None:
        return Plan(status=seen.status, action=kept)
    said = Conditions(seen.meta.conditions, generation=seen.meta.generation, now=seen.now)
    if isinstance(seen.server, Problem):
        said.unknown("Stored", seen.server.silence, f"The server could not be asked: {seen.server.message}")
        return _plan(seen, said, again=LATER)
    if seen.server is None and seen.failure:
        said.fails("Stored", REASONS.get(seen.failure.code, "Failed"), seen.failure.message)
        return _plan(seen, said, again=LATER if seen.failure.is_transient else SELDOM)
    if seen.server is None:
        said.works("Stored", "Registering", "The server loads it.")
        return _plan(seen, said, AddBase(seen.meta.name, seen.spec.source))
    if seen.server.source != seen.spec.source:
        message = f"The server has '{seen.server.source}' under this name, expected '{seen.spec.source}'. Take another name."
        said.fails("Stored", "NameTaken", message)
        return _plan(seen, said, again=SELDOM)
    wanted, found = plain(seen.spec.digest), seen.server.digest
    if wanted and wanted != found:
        message = (
            f"The server found digest {found[:12]}, expected {wanted[:12]}. Correct digest or source, or the server's files."
        )
        said.fails("Stored", "Mismatch", message)
        return _plan(seen, said, again=SELDOM)
    said.holds("Stored", "Stored", f"The server loads it from '{seen.spec.source}'.")
    return _plan(seen, said, digest=found)


def _plan(
    seen: BaseObserved, said: Conditions, action: Action | None = None, *, again: float | None = None, digest: str | None = None
) -> BasePlan:
    stored = said.get("Stored")
    if stored.status == "True":
        said.holds("Ready", "Ready", "pLLMs may refer to it.")
    else:
        said.fails("Ready", stored.reason, stored.message)
    kept = seen.status.digest if stored.status != "False" else None
    in_use = say_users(said, seen.meta, seen.users)
    changes = {"conditions": said.list((*TYPES, IN_USE)), "digest": digest or kept, "observed_generation": seen.meta.generation}
    warn = stored.reason in {*REASONS.values(), "NameTaken"} - {"ServerAway"}
    told = said.changed("Stored") and (warn or stored.status == "True")
    events = (Event(reason=stored.reason, message=stored.message, is_warning=warn),) if told else ()
    return Plan(
        status=seen.status.model_copy(update=changes),
        action=action,
        again=again,
        is_failure=again is not None,
        events=(*events, *in_use),
    )
