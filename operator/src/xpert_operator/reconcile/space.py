"""`StyleSpace`: built, rolled out over the pLLMs that refer to it, then current."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from xpert_operator.reconcile.conditions import Conditions, pause
from xpert_operator.reconcile.keeping import IN_USE, keeping, say_users
from xpert_operator.reconcile.pllm_seen import plain
from xpert_operator.reconcile.rolling_out import SOME_FAILED, STALLED, failures, may_take_over, standing, turns
from xpert_operator.reconcile.views import (
    LATER,
    REASONS,
    SELDOM,
    Action,
    BaseView,
    BuildSpace,
    Event,
    Members,
    Meta,
    Plan,
    Problem,
    SpaceKnown,
)
from xpert_operator.resources import SpaceVersion, StyleSpaceSpec, StyleSpaceStatus

TYPES = ("Accepted", "Stored", "RolledOut", "Ready")
SpacePlan = Plan[StyleSpaceStatus]


@dataclass(frozen=True, kw_only=True)
class SpaceObserved:
    """All that the decision depends on.

    Attributes
    ----------
    meta, spec, status
        The resource.
    base
        Its base model; None where there is no such resource.
    users
        What refers to it and is not being deleted.
    members
        The pLLMs that refer to it.
    server
        What the server has of the version that the spec asks for, or why that is not known.
    failure
        Why the last action failed.
    most
        How many pLLMs may be in the middle of being explained.
    retries
        Whether it is time to try again what failed for good.
    now
        The time.
    """

    meta: Meta
    spec: StyleSpaceSpec
    status: StyleSpaceStatus
    base: BaseView | None = None
    users: tuple[str, ...] = ()
    members: Members = field(default_factory=lambda: Members(total=0))
    server: SpaceKnown | Problem = field(default_factory=SpaceKnown)
    failure: Problem | None = None
    most: int = 32
    retries: bool = False
    now: datetime


def target(status: StyleSpaceStatus) -> str | None:
    """Return the digest that pLLMs are to be explained in."""
    version = status.next or status.current
    return version.digest if version else None


def space_name(namespace: str, name: str, version: int) -> str:
    """Return what a space that is built from exemplars is called on the server."""
    return f"{namespace}.{name}.v{version}"


def reconcile_space(seen: SpaceObserved) -> SpacePlan:
    """Decide on the next step."""
    kept = keeping(seen.meta, seen.users)
    if kept is not None:
        return Plan(status=seen.status, action=kept)
    said = Conditions(seen.meta.conditions, generation=seen.meta.generation, now=seen.now)
    # A job of an older spec built another space; it must not stand beside this generation, or it would be taken for its own.
    own = seen.status.job if seen.status.observed_generation == seen.meta.generation else None
    status = seen.status.model_copy(update={"observed_generation": seen.meta.generation, "job": own})
    if seen.base is None:
        message = f"There is no BaseModel '{seen.spec.base_model.name}'. Apply it; this one goes on by itself."
        said.fails("Accepted", "BaseModelMissing", message)
        return _plan(seen, said, status)
    said.holds("Accepted", "Accepted", "The spec can be used.")
    # Before the version asked for is there, too: a new pLLM is explained in the one that serves.
    status = status.model_copy(update={"explaining": turns(status.explaining, seen.members.waiting, seen.most)})
    if isinstance(seen.server, Problem):
        said.unknown("Stored", seen.server.silence, f"The server could not be asked: {seen.server.message}")
        return _plan(seen, said, status, again=LATER, is_failure=True)
    status = status.model_copy(update={"job": seen.server.job.id if seen.server.job else status.job})
    if seen.server.digest is None:
        return _store(seen, seen.server, said, status)
    said.holds("Stored", "Stored", f"On the server as {seen.server.digest[:12]}.")
    return _roll_out(seen, seen.server.digest, said, status.model_copy(update={"words": list(seen.server.words)}))


def _store(seen: SpaceObserved, known: SpaceKnown, said: Conditions, status: StyleSpaceStatus) -> SpacePlan:
    """Have it built, or say why it is not there."""
    failure, spec, job = seen.failure, seen.spec, known.job
    if spec.digest is not None:
        digest = plain(spec.digest) or ""
        said.fails(
            "Stored", "NotFound", f"The server has no style space {digest[:12]}. Upload it there: xpert server space add FILE."
        )
        return _plan(seen, said, status, again=SELDOM, is_failure=True)
    if failure is None and job is not None and job.state == "failed" and not seen.retries:
        failure = Problem(code=job.code or "error", message=f"The server's job {job.id[:12]} failed: {job.error}")
    if failure:
        said.fails("Stored", REASONS.get(failure.code, "Failed"), failure.message)
        return _plan(seen, said, status, again=LATER if failure.is_transient else SELDOM, is_failure=True)
    if job is not None and job.state in {"queued", "running"}:
        said.fails("Stored", "Building", "The server builds it.")
        return _plan(seen, said, status, again=pause(said.get("Stored"), seen.now))
    said.works("Stored", "Building", "The server builds it.")
    build = BuildSpace(
        name=space_name(seen.meta.namespace, seen.meta.name, spec.version),
        exemplars=spec.exemplars.config_map if spec.exemplars else None,
        words=tuple(spec.words or ()),
        probes=spec.probes.config_map if spec.probes else None,
        encoder=spec.encoder,
    )
    return _plan(seen, said, status, build)


def _roll_out(seen: SpaceObserved, digest: str, said: Conditions, status: StyleSpaceStatus) -> SpacePlan:
    """Have every pLLM explained in the new version, then serve it."""
    wanted = SpaceVersion(version=seen.spec.version, digest=digest)
    members, explained = seen.members, seen.members.explained.get(digest, 0)
    counts = {"pllms": members.total, "explained": explained, **failures(members)}
    status = status.model_copy(update=counts)
    reason, message = standing(seen, wanted, status.current)
    if status.current == wanted or may_take_over(members, explained):
        said.holds("RolledOut", "RolledOut", message)
        said.holds("Ready", "Ready", message)
        return _plan(seen, said, status.model_copy(update={"current": wanted, "next": None}))
    said.fails("RolledOut", reason, message)
    return _plan(seen, said, status.model_copy(update={"next": wanted}))


def _plan(
    seen: SpaceObserved,
    said: Conditions,
    status: StyleSpaceStatus,
    action: Action | None = None,
    *,
    again: float | None = None,
    is_failure: bool = False,
) -> SpacePlan:
    found = {condition.type: condition for condition in said.list(TYPES)}
    if "Ready" not in found:
        failing = next(condition for condition in found.values() if condition.status != "True")
        said.fails("Ready", failing.reason, failing.message)
    said.rest(TYPES)
    in_use = say_users(said, seen.meta, seen.users)
    status = status.model_copy(update={"conditions": said.list((*TYPES, IN_USE))})
    changed = [said.get(type_) for type_ in ("Stored", "RolledOut") if said.changed(type_)]
    warned = {*REASONS.values(), SOME_FAILED, STALLED}
    events = tuple(
        Event(reason=condition.reason, message=condition.message, is_warning=condition.reason in warned)
        for condition in changed
        if condition.status == "True" or condition.reason in {"RollingOut", *warned} - {"ServerAway"}
    )
    return Plan(status=status, action=action, again=again, is_failure=is_failure, events=(*events, *in_use))
