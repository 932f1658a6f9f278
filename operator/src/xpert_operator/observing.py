"""From the mirror and the server's answers to what a decision depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from xpert.core.errors import XpertError
from xpert_operator.cluster import Cluster, finalizer
from xpert_operator.mirror import Body, Key, Mirror, condition
from xpert_operator.reconcile import (
    BaseObserved,
    PllmObserved,
    SpaceObserved,
    reconcile_base,
    reconcile_pllm,
    reconcile_space,
)
from xpert_operator.reconcile.conditions import QUEUED, REQUEUED, WAITING
from xpert_operator.reconcile.pllm_refusals import LONGEST_NAME
from xpert_operator.reconcile.pllm_seen import plain, server_name
from xpert_operator.reconcile.space import target
from xpert_operator.reconcile.views import (
    REASONS,
    TRANSIENT,
    BaseView,
    Known,
    Members,
    Meta,
    Plan,
    Problem,
    SourceView,
    SpaceKnown,
    SpaceView,
)
from xpert_operator.resources import (
    BASE_MODEL,
    PLLM,
    STYLE_SPACE,
    BaseModelSpec,
    BaseModelStatus,
    Condition,
    Failure,
    PersonalizedLLMSpec,
    PersonalizedLLMStatus,
    StyleSpaceSpec,
    StyleSpaceStatus,
)
from xpert_operator.resources.style_space import LONGEST_MESSAGE
from xpert_operator.server import Server

UNDER_WAY = {"Explaining", WAITING, QUEUED, REQUEUED, *(REASONS[code] for code in TRANSIENT)}
"""Reasons of the condition Explained with which a pLLM is still to be explained."""

Observed = BaseObserved | SpaceObserved | PllmObserved
STATUSES: Mapping[str, type[BaseModel]] = {
    BASE_MODEL.name: BaseModelStatus,
    STYLE_SPACE.name: StyleSpaceStatus,
    PLLM.name: PersonalizedLLMStatus,
}


def status_of(key: Key, body: Body) -> BaseModel:
    """Read a resource's status."""
    return STATUSES[key.kind].model_validate(body.get("status") or {})


async def observe(
    key: Key, body: Body, mirror: Mirror, cluster: Cluster, server: Server, now: datetime, *, explanations: int
) -> Observed:
    """Find out all that the decision on a resource depends on; so many explanations of a style space may be under way."""
    if key.kind == BASE_MODEL.name:
        return await _base(key, body, mirror, server, now)
    if key.kind == STYLE_SPACE.name:
        return replace(await _space(key, body, mirror, server, now), most=explanations)
    return await _pllm(key, body, mirror, cluster, server, now)


def decide(seen: Observed, *, failure: Problem | None = None, retries: bool = False) -> Plan[Any]:
    """Decide on a resource."""
    if isinstance(seen, BaseObserved):
        return reconcile_base(replace(seen, failure=failure))
    if isinstance(seen, SpaceObserved):
        return reconcile_space(replace(seen, failure=failure, retries=retries))
    return reconcile_pllm(replace(seen, failure=failure, retries=retries))


async def _base(key: Key, body: Body, mirror: Mirror, server: Server, now: datetime) -> BaseObserved:
    spec, status = BaseModelSpec.model_validate(body["spec"]), BaseModelStatus.model_validate(body.get("status") or {})
    try:
        found: Any = await server.base(key.name)
    except XpertError as error:
        found = Problem(code=error.code, message=str(error))
    return BaseObserved(
        meta=_meta(key, body, status.conditions),
        spec=spec,
        status=status,
        users=_users(key, mirror, STYLE_SPACE.name, PLLM.name),
        server=found,
        now=now,
    )


async def _space(key: Key, body: Body, mirror: Mirror, server: Server, now: datetime) -> SpaceObserved:
    spec, status = StyleSpaceSpec.model_validate(body["spec"]), StyleSpaceStatus.model_validate(body.get("status") or {})
    # A job of an older version of the spec builds another space.
    job = status.job if status.observed_generation == body["metadata"].get("generation") else None
    try:
        found: SpaceKnown | Problem = await server.space(_known_digest(spec, status, job), job)
    except XpertError as error:
        found = Problem(code=error.code, message=str(error))
    return SpaceObserved(
        meta=_meta(key, body, status.conditions),
        spec=spec,
        status=status,
        base=_base_view(mirror, spec.base_model.name),
        users=_users(key, mirror, PLLM.name),
        members=_members(key, spec.base_model.name, mirror, _asked(found) or target(status)),
        server=found,
        now=now,
    )


def _known_digest(spec: StyleSpaceSpec, status: StyleSpaceStatus, job: str | None) -> str | None:
    """Return the digest of the version that the spec asks for, where it is known: given, or built before."""
    if spec.digest:
        return plain(spec.digest)
    known = [version.digest for version in (status.next, status.current) if version and version.version == spec.version]
    return known[0] if known and job is not None else None


async def _pllm(key: Key, body: Body, mirror: Mirror, cluster: Cluster, server: Server, now: datetime) -> PllmObserved:
    spec = PersonalizedLLMSpec.model_validate(body["spec"])
    status = PersonalizedLLMStatus.model_validate(body.get("status") or {})
    meta = _meta(key, body, status.conditions)
    if meta.deleting_since and meta.has_finalizer:
        meta = replace(meta, namespace_ends=await cluster.namespace_ends(key.namespace))
    seen = PllmObserved(
        meta=meta,
        spec=spec,
        status=status,
        base=_base_view(mirror, spec.base_model.name),
        space=_space_view(key, spec, status.style_space, mirror),
        sources=_sources(key, spec, mirror),
        dependents=_dependents(key, mirror),
        now=now,
    )
    if len(seen.server_name) > LONGEST_NAME:
        return seen  # the server would not understand the question
    return replace(seen, server=await _known(seen, server))


async def _known(seen: PllmObserved, server: Server) -> Known | Problem:
    name = server_name(seen.meta.namespace, seen.meta.name)
    try:
        return await server.pllm(seen.spec.base_model.name, name, space=seen.target, serving=seen.serving, job=seen.status.job)
    except XpertError as error:
        return Problem(code=error.code, message=str(error))


def _meta(key: Key, body: Body, conditions: list[Condition]) -> Meta:
    found = body["metadata"]
    deleted = found.get("deletionTimestamp")
    return Meta(
        namespace=key.namespace,
        name=key.name,
        generation=int(found.get("generation") or 0),
        deleting_since=_time(deleted) if deleted else None,
        has_finalizer=finalizer(key.kind) in (found.get("finalizers") or []),
        conditions=tuple(conditions),
    )


def _time(found: Any) -> datetime:
    return found if isinstance(found, datetime) else datetime.fromisoformat(found)


def _base_view(mirror: Mirror, name: str) -> BaseView | None:
    body = mirror.get(Key(BASE_MODEL.name, "", name))
    if body is None:
        return None
    ready = condition(body, "Ready")
    digest = (body.get("status") or {}).get("digest") if ready.get("status") == "True" else None
    return BaseView(digest=digest, message=str(ready.get("message", "It was not looked at yet.")))


def _space_view(key: Key, spec: PersonalizedLLMSpec, explained_in: str | None, mirror: Mirror) -> SpaceView | None:
    if spec.style_space is None:
        return None
    body = mirror.get(Key(STYLE_SPACE.name, key.namespace, spec.style_space.name))
    if body is None:
        return None
    status = StyleSpaceStatus.model_validate(body.get("status") or {})
    message = str(condition(body, "Ready").get("message", "It was not looked at yet."))
    digest = target(status)
    return SpaceView(
        base=body["spec"]["baseModel"]["name"],
        target=digest,
        message=message,
        serving=status.current.digest if status.current and status.current.digest != digest else None,
        # What the server has lost was explained once: that is no roll-out.
        has_turn=key.name in status.explaining or explained_in == digest,
    )


def _sources(key: Key, spec: PersonalizedLLMSpec, mirror: Mirror) -> dict[str, SourceView | None]:
    found: dict[str, SourceView | None] = {}
    for source in spec.merge.sources if spec.merge else []:
        body = mirror.get(Key(PLLM.name, key.namespace, source.name))
        is_stored = body is not None and condition(body, "Stored").get("status") == "True"
        found[source.name] = SourceView(base=body["spec"]["baseModel"]["name"], is_stored=is_stored) if body else None
    return found


def _users(key: Key, mirror: Mirror, *kinds: str) -> tuple[str, ...]:
    """Return what refers to a resource and is to stay; what is being deleted needs it no more."""
    if not ((mirror.get(key) or {}).get("metadata") or {}).get("deletionTimestamp"):
        return ()  # nobody asks before, and ten thousand may refer to it
    found = [other for kind in kinds for other in mirror.referrers(key, kind)]
    return tuple(str(other) for other in found if not ((mirror.get(other) or {}).get("metadata") or {}).get("deletionTimestamp"))


def _dependents(key: Key, mirror: Mirror) -> tuple[str, ...]:
    bodies = [mirror.get(other) for other in mirror.referrers(key, PLLM.name)]
    return tuple(body["metadata"]["name"] for body in bodies if body and not body["metadata"].get("deletionTimestamp"))


def _members(key: Key, base: str, mirror: Mirror, digest: str | None) -> Members:
    bodies = [mirror.get(other) for other in mirror.referrers(key, PLLM.name)]
    # One that cannot be stored has no explanation to lose, and one of another base never gets any: they would hold up the others
    # for ever.
    stored = [
        body
        for body in bodies
        if body
        and body["spec"]["baseModel"]["name"] == base
        and not body["metadata"].get("deletionTimestamp")
        and condition(body, "Stored").get("status") == "True"
    ]
    spaces = {body["metadata"]["name"]: (body.get("status") or {}).get("styleSpace") for body in stored}
    failed = [failure for body in stored if spaces[body["metadata"]["name"]] != digest and (failure := _failure(body, digest))]
    left = spaces.keys() - {failure.name for failure in failed}
    tried = {body["metadata"]["name"] for body in stored if condition(body, "Explained").get("reason") == REQUEUED}
    # Those without any words before those that the old version serves meanwhile, and those that failed after both.
    waiting = sorted((n for n in left if spaces[n] != digest), key=lambda name: (name in tried, spaces[name] is not None, name))
    return Members(
        total=len(stored),
        explained=Counter(str(space) for space in spaces.values() if space),
        waiting=tuple(waiting) if digest else (),
        failed=tuple(failed),
    )


def _asked(found: SpaceKnown | Problem) -> str | None:
    """Return the digest of the version that the spec asks for, where the server has it."""
    return found.digest if isinstance(found, SpaceKnown) else None


def _failure(body: Body, digest: str | None) -> Failure | None:
    """Return why a pLLM cannot be explained in a space; None where that may go by itself, or was not tried yet."""
    accepted, explained = condition(body, "Accepted"), condition(body, "Explained")
    if accepted.get("status") == "False" and not accepted["reason"].startswith(("BaseModel", "StyleSpace")):
        found = accepted
    elif (
        explained.get("status") == "False"
        and explained["reason"] not in UNDER_WAY
        and (body.get("status") or {}).get("wantedSpace") == digest
    ):
        found = explained
    else:
        return None
    return Failure(name=body["metadata"]["name"], reason=found["reason"], message=found["message"][:LONGEST_MESSAGE])
