"""`PersonalizedLLM` that somebody deleted: what goes with it, and when it is let go."""

from __future__ import annotations

from datetime import timedelta

from xpert_operator.reconcile.conditions import Conditions
from xpert_operator.reconcile.pllm_seen import PllmObserved, differs
from xpert_operator.reconcile.views import (
    LATER,
    Action,
    CancelJob,
    DeleteDependents,
    DeletePllm,
    Event,
    Known,
    Plan,
    Problem,
    RemoveFinalizer,
)
from xpert_operator.resources import PersonalizedLLMStatus

LET_GO, LET_GO_ALONE = timedelta(minutes=10), timedelta(days=1)
"""How long the server may be away before the resource is let go: where its namespace ends as well, and where it goes alone."""

PllmPlan = Plan[PersonalizedLLMStatus]


def delete_pllm(seen: PllmObserved) -> PllmPlan:
    """Decide on the next step."""
    if not seen.meta.has_finalizer or seen.meta.deleting_since is None:
        return Plan(status=seen.status)
    said = Conditions(seen.meta.conditions, generation=seen.meta.generation, now=seen.now)
    if seen.dependents and seen.spec.dependents == "Cascade":
        return _going(seen, said, "Deleting", "The pLLMs merged from it go first.", DeleteDependents(seen.dependents))
    if seen.dependents and seen.spec.dependents == "Refuse":
        names = ", ".join(seen.dependents[:5])
        message = f"Merged from it: {names}. Delete these first, or set spec.dependents to Cascade or Ignore."
        return _going(seen, said, "InUse", message, None)
    if seen.spec.deletion_policy == "Delete" and seen.failure is None and (job := _making(seen)):
        # Let go now, it would come to be on the server after its resource is gone, and nobody would ever take it away.
        return _going(seen, said, "Deleting", "The merge that makes it is stopped.", CancelJob(job))
    is_gone = isinstance(seen.server, Known) and _is_gone_or_other(seen, seen.server) and not _making(seen)
    if seen.spec.deletion_policy == "Retain" or is_gone:
        return _going(seen, said, "Deleting", "It goes.", RemoveFinalizer())
    problem = seen.failure or seen.server
    if isinstance(problem, Problem):
        return _waiting(seen, said, problem, seen.now - seen.meta.deleting_since)
    return _going(seen, said, "Deleting", "The server's copy goes.", DeletePllm(seen.spec.base_model.name, seen.server_name))


def _making(seen: PllmObserved) -> str | None:
    """Return the job that is about to make it on the server."""
    known = seen.server
    if not isinstance(known, Known) or known.pllm is not None or known.job is None:
        return None
    return known.job.id if known.job.state in {"queued", "running"} else None


def _is_gone_or_other(seen: PllmObserved, known: Known) -> bool:
    return known.pllm is None or differs(seen, known.pllm) is not None


def _waiting(seen: PllmObserved, said: Conditions, problem: Problem, away: timedelta) -> PllmPlan:
    """Wait for the server, but not for ever."""
    message = problem.message
    if away > (LET_GO if seen.meta.namespace_ends else LET_GO_ALONE):
        left = f"The server's copy '{seen.server_name}' of '{seen.spec.base_model.name}' stays behind: {message} Delete it there."
        plan = _going(seen, said, "LeftBehind", left, RemoveFinalizer())
        return Plan(status=plan.status, action=plan.action, events=(Event(reason="LeftBehind", message=left, is_warning=True),))
    plan = _going(seen, said, problem.silence, f"The server's copy cannot be deleted now: {message} It is tried again.", None)
    return Plan(status=plan.status, again=LATER, is_failure=True, events=plan.events)


def _going(seen: PllmObserved, said: Conditions, reason: str, message: str, action: Action | None) -> PllmPlan:
    said.fails("Ready", reason, message)
    others = [condition for condition in seen.meta.conditions if condition.type != "Ready"]
    status = seen.status.model_copy(update={"conditions": [*others, said.get("Ready")]})
    warn = reason == "InUse" and said.changed("Ready")
    events = (Event(reason=reason, message=message, is_warning=True),) if warn else ()
    return Plan(status=status, action=action, events=events)
