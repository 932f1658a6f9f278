"""What is decided on deleted pLLMs, style spaces and base models, by tables of states."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from reconcile_cases import (
    BASE,
    NEXT,
    NOW,
    OTHER,
    READY,
    SPACE,
    base,
    base_held,
    condition,
    held,
    job,
    known,
    message,
    meta,
    on_server,
    pllm,
    space,
    told,
)

from xpert_operator.reconcile import (
    BaseObserved,
    PllmObserved,
    SpaceObserved,
    reconcile_base,
    reconcile_pllm,
    reconcile_space,
)
from xpert_operator.reconcile.views import (
    Action,
    AddBase,
    AddFinalizer,
    BuildSpace,
    CancelJob,
    DeleteDependents,
    DeletePllm,
    Members,
    Plan,
    Problem,
    RemoveFinalizer,
    SpaceKnown,
)
from xpert_operator.resources import SpaceVersion, StyleSpaceStatus
from xpert_operator.resources.parts import ConfigMapKey

AWAY = Problem(code="unavailable", message="No answer.")
SERVED = known(held(), catalogue="v1")


def deleted(*, ago: timedelta = timedelta(), ends: bool = False, **more: Any) -> PllmObserved:
    return pllm(meta=meta(conditions=READY, deleting_since=NOW - ago, namespace_ends=ends), **more)


MINUTES, HOURS = timedelta(minutes=11), timedelta(hours=25)
MERGING = job("running", kind="merge")
GOES = DeletePllm("starter", "team.mine")
DELETIONS: list[tuple[str, PllmObserved, Action | None, str]] = [
    ("the server has it", deleted(server=SERVED), GOES, "Deleting"),
    ("the server has it no more", deleted(server=known()), RemoveFinalizer(), "Deleting"),
    ("it is to stay", deleted(spec={"deletionPolicy": "Retain"}, server=SERVED), RemoveFinalizer(), "Deleting"),
    (
        "somebody else's under its name",
        deleted(server=known(held(files={"adapter_model.safetensors": OTHER}))),
        RemoveFinalizer(),
        "Deleting",
    ),
    ("others are merged from it", deleted(server=SERVED, dependents=("mix",)), None, "InUse"),
    ("they go as well", deleted(spec={"dependents": "Cascade"}, dependents=("mix",)), DeleteDependents(("mix",)), "Deleting"),
    ("they do not mind", deleted(spec={"dependents": "Ignore"}, server=SERVED, dependents=("mix",)), GOES, "Deleting"),
    ("the server is away", deleted(server=AWAY), None, "ServerAway"),
    ("away for minutes", deleted(server=AWAY, ago=MINUTES), None, "ServerAway"),
    ("away for minutes, and the namespace ends", deleted(server=AWAY, ago=MINUTES, ends=True), RemoveFinalizer(), "LeftBehind"),
    ("away for a day", deleted(server=AWAY, ago=HOURS), RemoveFinalizer(), "LeftBehind"),
    ("the server refuses", deleted(server=SERVED, failure=Problem(code="access", message="No.")), None, "AccessDenied"),
    ("it is being merged", deleted(server=known(job=MERGING)), CancelJob(MERGING.id), "Deleting"),
    ("its merge cannot be stopped", deleted(server=known(job=MERGING), failure=AWAY), None, "ServerAway"),
    ("its merge was stopped", deleted(server=known(job=job("cancelled", kind="merge"))), RemoveFinalizer(), "Deleting"),
    (
        "being merged, and to stay",
        deleted(spec={"deletionPolicy": "Retain"}, server=known(job=MERGING)),
        RemoveFinalizer(),
        "Deleting",
    ),
]


@pytest.mark.parametrize(("seen", "action", "reason"), [pytest.param(*row[1:], id=row[0]) for row in DELETIONS])
def test_deletion(seen: PllmObserved, action: Action | None, reason: str) -> None:
    plan = reconcile_pllm(seen)
    assert plan.action == action
    assert told(plan)["Ready"] == f"-{reason}"
    assert [event.reason for event in plan.events] == ([reason] if reason in {"InUse", "LeftBehind"} else [])
    assert all(event.is_warning for event in plan.events)


def test_deletion_without_our_finalizer_is_not_ours() -> None:
    seen = pllm(meta=meta(has_finalizer=False, deleting_since=NOW))
    assert (reconcile_pllm(seen).action, reconcile_pllm(seen).status) == (None, seen.status)


def test_whoever_is_left_behind_is_named() -> None:
    plan = reconcile_pllm(deleted(server=AWAY, ago=HOURS))
    assert "'team.mine' of 'starter' stays behind: No answer. Delete it there." in plan.events[0].message


OLD = StyleSpaceStatus(current=SpaceVersion(version=1, digest=SPACE))
ROLLING = OLD.model_copy(update={"next": SpaceVersion(version=2, digest=NEXT)})
BUILD = BuildSpace("team.mine.v1", ConfigMapKey(name="texts", key="exemplars.jsonl"))
SPACES: list[tuple[str, SpaceObserved, Action | None, dict[str, str]]] = [
    ("no base", space(base=None), None, {"Accepted": "-BaseModelMissing", "Stored": "-Waiting"}),
    ("new", space(), BUILD, {"Accepted": "Accepted", "Stored": "-Building", "RolledOut": "-Waiting", "Ready": "-Building"}),
    (
        "of XPerT's own exemplars, some words",
        space(spec={"exemplars": None, "words": ["poetic", "terse"], "encoder": "mini"}),
        BuildSpace("team.mine.v1", None, ("poetic", "terse"), encoder="mini"),
        {"Stored": "-Building"},
    ),
    ("under way", space(server=SpaceKnown(job=job("running", kind="space"))), None, {"Stored": "-Building"}),
    (
        "wrong exemplars",
        space(server=SpaceKnown(job=job("failed", kind="space", code="bad_file", error="Line 3."))),
        None,
        {"Stored": "-BadFile", "Ready": "-BadFile"},
    ),
    (
        "wrong exemplars, tried again",
        space(server=SpaceKnown(job=job("failed", kind="space", code="bad_file")), retries=True),
        BUILD,
        {"Stored": "-Building"},
    ),
    ("no ConfigMap", space(failure=Problem(code="not_found", message="None.")), None, {"Stored": "-NotFound"}),
    ("the server is away", space(server=AWAY), None, {"Stored": "?ServerAway"}),
    ("a digest that is not there", space(spec={"exemplars": None, "digest": SPACE}), None, {"Stored": "-NotFound"}),
    ("built, nobody refers to it", space(server=on_server(SPACE)), None, {"RolledOut": "RolledOut", "Ready": "Ready"}),
    (
        "the first version, pLLMs wait for it",
        space(server=on_server(SPACE), members=Members(total=3)),
        None,
        {"Stored": "Stored", "RolledOut": "-RollingOut", "Ready": "-RollingOut"},
    ),
    (
        "all are explained",
        space(server=on_server(SPACE), members=Members(total=3, explained={SPACE: 3})),
        None,
        {"RolledOut": "RolledOut", "Ready": "Ready"},
    ),
    (
        "current, and a new pLLM came",
        space(server=on_server(SPACE), status=OLD, members=Members(total=4, explained={SPACE: 3})),
        None,
        {"RolledOut": "RolledOut", "Ready": "Ready"},
    ),
]


@pytest.mark.parametrize(("seen", "action", "conditions"), [pytest.param(*row[1:], id=row[0]) for row in SPACES])
def test_space(seen: SpaceObserved, action: Action | None, conditions: Mapping[str, str]) -> None:
    plan = reconcile_space(seen)
    assert plan.action == action
    assert conditions.items() <= told(plan).items()
    assert len(plan.status.conditions) == 4


def test_the_old_version_serves_until_the_last_one_is_explained() -> None:
    versions = []
    status = OLD
    for explained in range(4):
        members = Members(total=3, explained={SPACE: 3 - explained, NEXT: explained})
        seen = space(spec={"version": 2}, status=status, server=on_server(NEXT), members=members)
        plan = reconcile_space(seen)
        status = plan.status
        versions.append((status.current and status.current.version, status.next and status.next.version, status.explained))
    assert versions == [(1, 2, 0), (1, 2, 1), (1, 2, 2), (2, None, 3)]
    halfway = reconcile_space(space(spec={"version": 2}, status=OLD, server=on_server(NEXT), members=Members(total=3)))
    assert message(halfway) == "0 of 3 pLLMs are explained in version 2; version 1 serves until then."


BUILT = OLD.model_copy(update={"job": "1" * 64, "observed_generation": 1})
CHANGED: list[tuple[str, SpaceObserved]] = [
    ("it is to be built", space(spec={"version": 2}, status=BUILT, meta=meta(generation=2))),
    ("its base went", space(spec={"version": 2}, status=BUILT, meta=meta(generation=2), base=None)),
    ("the server is away", space(spec={"version": 2}, status=BUILT, meta=meta(generation=2), server=AWAY)),
    (
        "no ConfigMap",
        space(spec={"version": 2}, status=BUILT, meta=meta(generation=2), failure=Problem(code="not_found", message=".")),
    ),
]


@pytest.mark.parametrize("seen", [pytest.param(row[1], id=row[0]) for row in CHANGED])
def test_the_job_of_an_older_version_is_not_taken_for_the_newer_ones(seen: SpaceObserved) -> None:
    status = reconcile_space(seen).status
    assert (status.observed_generation, status.job, status.current) == (2, None, OLD.current)
    again = reconcile_space(space(status=BUILT, server=AWAY)).status
    assert again.job == BUILT.job, "while the spec stays, its job is asked for again"


USERS = tuple(f"PersonalizedLLM team/p{n}" for n in range(7))
GOING = {"deleting_since": NOW}
KEPT: list[tuple[str, dict[str, Any], tuple[str, ...], Action | None, str]] = [
    ("new", {"has_finalizer": False}, (), AddFinalizer(), ""),
    ("used", {}, USERS, None, ""),
    ("deleted, nobody uses it", GOING, (), RemoveFinalizer(), ""),
    ("deleted, and used", GOING, USERS, None, "7 still refer to it: PersonalizedLLM team/p0, "),
    ("deleted, and somebody else keeps it", {**GOING, "has_finalizer": False}, USERS, None, ""),
]


@pytest.mark.parametrize(("about", "users", "action", "said"), [pytest.param(*row[1:], id=row[0]) for row in KEPT])
def test_a_base_or_space_that_is_used_stays_and_works(
    about: dict[str, Any], users: tuple[str, ...], action: Action | None, said: str
) -> None:
    whose = {"namespace": "", "name": "starter"}
    plans: list[Plan[Any]] = [
        reconcile_base(base(meta=meta(**whose, **about), users=users, server=base_held())),
        reconcile_space(space(meta=meta(**about), users=users, server=on_server(SPACE))),
    ]
    for plan in plans:
        assert plan.action == action
        in_use = [found for found in plan.status.conditions if found.type == "InUse"]
        assert bool(in_use) == bool(said)
        if said:
            assert said in in_use[0].message and "team/p4 and 2 more. It goes when they are gone" in in_use[0].message
            assert "team/p5" not in in_use[0].message
            assert told(plan)["Ready"] == "Ready", "those who use it are served on"
            assert [(event.reason, event.is_warning) for event in plan.events][-1] == ("InUse", True)


def test_who_uses_it_is_told_once() -> None:
    first = reconcile_base(base(meta=meta(**GOING), users=USERS, server=base_held()))
    since = meta(**GOING, conditions=tuple(first.status.conditions))
    again = reconcile_base(base(meta=since, users=USERS[1:], server=base_held()))
    assert again.events == () and "6 still refer to it" in message(again, "InUse")


BASES: list[tuple[str, BaseObserved, Action | None, str, float | None]] = [
    ("new", base(), AddBase("starter", "starter:base"), "-Registering", None),
    ("the server is away", base(server=AWAY), None, "?ServerAway", 5),
    ("cannot be loaded", base(failure=Problem(code="not_found", message="Nowhere.")), None, "-NotFound", 600),
    ("refused for now", base(failure=Problem(code="unavailable", message="Later.")), None, "-ServerAway", 5),
    ("there", base(server=base_held()), None, "Stored", None),
    ("there with its digest", base(server=base_held(), digest=f"sha256:{BASE}"), None, "Stored", None),
    ("another digest", base(server=base_held(), digest=OTHER), None, "-Mismatch", 600),
    ("another source", base(server=base_held("other")), None, "-NameTaken", 600),
]


@pytest.mark.parametrize(("seen", "action", "stored", "again"), [pytest.param(*row[1:], id=row[0]) for row in BASES])
def test_base(seen: BaseObserved, action: Action | None, stored: str, again: float | None) -> None:
    plan = reconcile_base(seen)
    assert (plan.action, plan.again, told(plan)["Stored"]) == (action, again, stored)
    assert plan.status.digest == (BASE if stored == "Stored" else None)
    assert told(plan)["Ready"] == ("Ready" if stored == "Stored" else f"-{stored.lstrip('-?')}")


def test_a_base_that_is_ready_stays_so_while_the_server_is_away() -> None:
    before = (condition("Stored"), condition("Ready"))
    status = reconcile_base(base(server=base_held())).status
    plan = reconcile_base(base(server=AWAY, status=status, meta=meta(conditions=before)))
    assert told(plan) == {"Stored": "Stored", "Ready": "Ready"} and plan.status.digest == BASE
