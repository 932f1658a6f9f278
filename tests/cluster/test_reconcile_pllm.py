"""What is decided on a `PersonalizedLLM`, by tables of states."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from reconcile_cases import (
    BASE,
    NEXT,
    NOW,
    OTHER,
    READY,
    SPACE,
    STORED,
    WEIGHTS,
    condition,
    held,
    job,
    known,
    merge_held,
    merged,
    message,
    meta,
    pllm,
    told,
)

from xpert.core import errors
from xpert_operator.reconcile import PllmObserved, reconcile_pllm
from xpert_operator.reconcile.pllm import TYPES
from xpert_operator.reconcile.views import (
    REASONS,
    TRANSIENT,
    Action,
    AddFinalizer,
    AskExplanation,
    AskMerge,
    BaseView,
    Problem,
    PushAdapter,
    SetPublished,
    SourceView,
    SpaceView,
)
from xpert_operator.resources import PersonalizedLLMStatus

AWAY = Problem(code="unavailable", message="No answer.")
REFUSED_TOKEN = Problem(code="access", message="Not this token.")
IN_SPACE = {"styleSpace": {"name": "words"}}

STEPS: list[tuple[str, PllmObserved, Action | None, dict[str, str]]] = [
    ("new", pllm(meta=meta(has_finalizer=False)), AddFinalizer(), {"Accepted": "Accepted"}),
    (
        "not there",
        pllm(),
        PushAdapter("starter", "team.mine", "s3://adapters/mine", WEIGHTS, "bucket"),
        {"Accepted": "Accepted", "Stored": "-Storing", "Explained": "-Waiting", "Ready": "-Storing"},
    ),
    (
        "a merge that is not there",
        merged(),
        AskMerge("starter", "team.mine", {"team.one": 0.5, "team.two": 0.5}, None),
        {"Stored": "-Storing"},
    ),
    (
        "a merge cut to a rank",
        merged(spec={"merge": {"sources": [{"name": "one", "weight": 2}], "rank": 8}}, sources={"one": STORED["one"]}),
        AskMerge("starter", "team.mine", {"team.one": 2.0}, 8),
        {"Stored": "-Storing"},
    ),
    ("a merge under way", merged(server=known(job=job("running", kind="merge"))), None, {"Stored": "-Storing"}),
    (
        "its merge failed",
        merged(server=known(job=job("failed", kind="merge", error="no"))),
        None,
        {"Stored": "-JobFailed", "Ready": "-JobFailed"},
    ),
    (
        "its merge failed long ago",
        merged(server=known(job=job("failed", kind="merge", error="no")), retries=True),
        AskMerge("starter", "team.mine", {"team.one": 0.5, "team.two": 0.5}, None),
        {"Stored": "-Storing"},
    ),
    (
        "stored, nobody explains it",
        pllm(server=known(held(explained=False))),
        AskExplanation("starter", "team.mine", None),
        {"Stored": "Stored", "Explained": "-Explaining", "Published": "-Waiting"},
    ),
    (
        "stored, to be explained in a space",
        pllm(spec=IN_SPACE, space=SpaceView(base="starter", target=NEXT), server=known(held(explained=False))),
        AskExplanation("starter", "team.mine", NEXT),
        {"Explained": "-Explaining"},
    ),
    (
        "being explained",
        pllm(server=known(held(explained=False), job("running", done=3, total=9))),
        None,
        {"Explained": "-Explaining"},
    ),
    ("not explained", pllm(server=known(held(explained=False), job("failed", error="no"))), None, {"Explained": "-JobFailed"}),
    (
        "its job was cancelled",
        pllm(server=known(held(explained=False), job("cancelled"))),
        AskExplanation("starter", "team.mine", None),
        {"Explained": "-Explaining"},
    ),
    (
        "explained, and the catalogue does not have it yet",
        pllm(server=known(held())),
        None,
        {"Explained": "Explained", "Published": "-Publishing", "Ready": "-Publishing"},
    ),
    (
        "all there",
        pllm(server=known(held(), catalogue="v1")),
        None,
        {"Accepted": "Accepted", "Stored": "Stored", "Explained": "Explained", "Published": "Published", "Ready": "Ready"},
    ),
    ("a merge, all there", merged(server=known(merge_held(0.5, 0.5), catalogue="v1")), None, {"Ready": "Ready"}),
    (
        "published and should not be",
        pllm(spec={"publish": False}, server=known(held(), catalogue="v1")),
        SetPublished("starter", "team.mine", publish=False),
        {"Published": "-Publishing"},
    ),
    (
        "unlisted as asked for",
        pllm(spec={"publish": False}, server=known(held(published=False))),
        None,
        {"Published": "Unlisted", "Ready": "Ready"},
    ),
    (
        "unlisted and should not be",
        pllm(server=known(held(published=False))),
        SetPublished("starter", "team.mine", publish=True),
        {"Published": "-Publishing"},
    ),
    (
        "other weights under its name",
        pllm(server=known(held(files={"adapter_model.safetensors": OTHER}))),
        None,
        {"Stored": "-NameTaken", "Ready": "-NameTaken"},
    ),
    ("another merge under its name", merged(server=known(merge_held(0.5, 0.4))), None, {"Stored": "-NameTaken"}),
    ("an adapter under a merge's name", merged(server=known(held())), None, {"Stored": "-NameTaken"}),
    ("refused by the server", pllm(server=known(held(quarantined="NaN in it"))), None, {"Stored": "-Quarantined"}),
    ("new, and the server is away", pllm(server=AWAY), None, {"Accepted": "Accepted", "Stored": "?ServerAway"}),
    (
        "the operator's token is not taken",
        pllm(server=REFUSED_TOKEN),
        None,
        {"Stored": "?AccessDenied", "Ready": "-AccessDenied"},
    ),
    (
        "withdrawn while it is explained anew",
        pllm(spec={"publish": False}, server=known(held(explained=False), job("running"))),
        SetPublished("starter", "team.mine", publish=False),
        {"Published": "-Publishing"},
    ),
    (
        "withdrawn, and its explanation failed",
        pllm(spec={"publish": False}, server=known(held(explained=False), job("failed", error="no"))),
        SetPublished("starter", "team.mine", publish=False),
        {"Published": "-Publishing"},
    ),
    (
        "withdrawn, then explained",
        pllm(spec={"publish": False}, server=known(held(explained=False, published=False))),
        AskExplanation("starter", "team.mine", None),
        {"Explained": "-Explaining"},
    ),
    (
        "a merge whose sources went",
        merged(server=known(merge_held(0.5, 0.5), catalogue="v1"), sources={"one": None, "two": None}),
        None,
        {"Accepted": "Accepted", "Ready": "Ready"},
    ),
    (
        "a merge whose sources went, and the server is away",
        merged(server=AWAY, sources={"one": None, "two": None}, meta=meta(conditions=READY)),
        None,
        {"Accepted": "Accepted", "Ready": "Ready"},
    ),
]


@pytest.mark.parametrize(("seen", "action", "conditions"), [pytest.param(*row[1:], id=row[0]) for row in STEPS])
def test_the_next_step(seen: PllmObserved, action: Action | None, conditions: dict[str, str]) -> None:
    plan = reconcile_pllm(seen)
    assert plan.action == action
    assert conditions.items() <= told(plan).items()
    assert {found.type for found in plan.status.conditions} == set(TYPES)
    assert plan.action is None or plan.again is None
    assert reconcile_pllm(seen) == plan


REFUSED: list[tuple[str, PllmObserved, str, str]] = [
    ("long name", pllm(meta=meta(name="n" * 60)), "NameTooLong", "65 characters, at most 63"),
    ("no base", pllm(base=None), "BaseModelMissing", "no BaseModel 'starter'"),
    ("base not ready", pllm(base=BaseView(digest=None, message="It loads.")), "BaseModelNotReady", "It loads."),
    (
        "another base",
        pllm(spec={"baseModel": {"name": "starter", "digest": OTHER}}),
        "BaseDigestDiffers",
        "bbbbbbbbbbbb, expected cccccccccccc",
    ),
    ("no space", pllm(spec=IN_SPACE), "StyleSpaceMissing", "no StyleSpace 'words'"),
    ("space of another base", pllm(spec=IN_SPACE, space=SpaceView(base="x", target=SPACE)), "OtherBase", "of base 'x'"),
    (
        "space not ready",
        pllm(spec=IN_SPACE, space=SpaceView(base="starter", target=None, message="It is built.")),
        "StyleSpaceNotReady",
        "It is built.",
    ),
    ("a source is missing", merged(sources={**STORED, "two": None}), "SourceMissing", "no PersonalizedLLM 'two'"),
    (
        "a source of another base",
        merged(sources={**STORED, "two": SourceView(base="x", is_stored=True)}),
        "OtherBase",
        "'two' is of base 'x'",
    ),
    (
        "a source is not stored",
        merged(sources={**STORED, "two": SourceView(base="starter", is_stored=False)}),
        "SourceNotReady",
        "'two' is not stored yet",
    ),
]


@pytest.mark.parametrize(("seen", "reason", "said"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_cannot_be_used_waits_and_says_why(seen: PllmObserved, reason: str, said: str) -> None:
    plan = reconcile_pllm(seen)
    assert (plan.action, plan.again) == (None, None)  # a change of what it refers to brings it back
    assert told(plan)["Accepted"] == told(plan)["Ready"] == f"-{reason}"
    assert said in message(plan)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_an_error_that_may_go_by_itself_is_told_from_one_that_does_not(code: str) -> None:
    plan = reconcile_pllm(pllm(failure=Problem(code=code, message="So it is.")))
    assert plan.action is None and plan.is_failure
    assert told(plan)["Stored"] == told(plan)["Ready"] == f"-{REASONS[code]}"
    if code in TRANSIENT:
        assert plan.again == 5 and "It is tried again." in message(plan)
    else:
        assert plan.again == 600 and "mend the cause" in message(plan)


def test_every_code_of_an_error_has_a_reason_or_the_general_one() -> None:
    codes = {cls.code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.XpertError)}
    assert set(REASONS) <= codes and set(TRANSIENT) <= codes
    for code in codes - set(REASONS):
        assert told(reconcile_pllm(pllm(failure=Problem(code=code, message="So."))))["Stored"] == "-Failed"


def test_one_that_is_ready_stays_so_while_the_server_is_away() -> None:
    before = reconcile_pllm(pllm(server=known(held(), catalogue="v1")))
    plan = reconcile_pllm(pllm(meta=meta(conditions=tuple(before.status.conditions)), status=before.status, server=AWAY))
    assert plan.status == before.status and plan.events == ()
    assert plan.again == 5 and plan.is_failure


def test_what_the_server_lost_is_brought_back_and_said() -> None:
    plan = reconcile_pllm(pllm(meta=meta(conditions=READY), server=known()))
    assert isinstance(plan.action, PushAdapter)
    assert told(plan)["Stored"] == told(plan)["Ready"] == "-Storing"


def test_the_old_words_stay_until_there_are_new_ones() -> None:
    before = reconcile_pllm(pllm(server=known(held(), catalogue="v1"))).status
    seen = pllm(
        spec=IN_SPACE,
        space=SpaceView(base="starter", target=NEXT),
        status=before,
        meta=meta(conditions=tuple(before.conditions), generation=2),
        server=known(held(explained=False), job("running")),
    )
    plan = reconcile_pllm(seen)
    assert told(plan)["Ready"] == "-Explaining"
    assert (plan.status.summary, plan.status.style_space, plan.status.words) == (before.summary, SPACE, before.words)


def test_the_status_says_what_there_is_and_stays_small() -> None:
    status = reconcile_pllm(pllm(server=known(held(), catalogue="v1"))).status
    assert status.summary == "w00 0.90, w01 0.88, w02 0.86"
    assert len(status.words) == 12 and status.words[0].lower == 0.1
    assert (status.strength, status.residual_share, status.n_probes) == (1.235, 0.5, 40)
    assert (status.base_digest, status.adapter_bytes, status.catalogue_version) == (BASE, 1234, "v1")
    assert (status.server_name, status.observed_generation) == ("team.mine", 1)
    full = status.model_dump_json(by_alias=True, exclude_none=True)
    assert len(full) < 4000
    assert PersonalizedLLMStatus.model_validate_json(full) == status


def test_time_of_a_condition_moves_with_its_status_alone() -> None:
    old = tuple(condition(type_, "False", "Waiting", since=100) for type_ in TYPES)
    plan = reconcile_pllm(pllm(meta=meta(conditions=old), server=known(held(explained=False), job("running"))))
    since = {found.type: (NOW - found.last_transition_time).total_seconds() for found in plan.status.conditions}
    assert since == {"Accepted": 0, "Stored": 0, "Explained": 100, "Published": 100, "Ready": 100}
    later = replace(pllm(server=known(held(), catalogue="v1")), meta=meta(conditions=tuple(plan.status.conditions), generation=2))
    assert {found.observed_generation for found in reconcile_pllm(later).status.conditions} == {2}


@pytest.mark.parametrize(("waited", "again"), [(0, 2), (30, 6), (3000, 60)])
def test_a_job_is_asked_for_more_seldom_the_longer_it_takes(waited: float, again: float) -> None:
    since = (condition("Explained", "False", "Explaining", since=waited),)
    plan = reconcile_pllm(pllm(meta=meta(conditions=since), server=known(held(explained=False), job("queued"))))
    assert plan.again == again and not plan.is_failure


def test_events_tell_what_changed_once() -> None:
    seen = pllm(server=known(held(), catalogue="v1"))
    first = reconcile_pllm(seen)
    assert [event.reason for event in first.events] == ["Stored", "Explained", "Published"]
    again = reconcile_pllm(replace(seen, meta=meta(conditions=tuple(first.status.conditions)), now=NOW + timedelta(hours=1)))
    assert again.events == () and again.status == first.status
    bad = reconcile_pllm(pllm(failure=Problem(code="bad_file", message="Other weights.")))
    assert [(event.reason, event.is_warning) for event in bad.events] == [("BadFile", True)]
    assert reconcile_pllm(pllm(server=AWAY)).events == ()


def test_a_failure_stays_said_while_it_is_tried_again() -> None:
    bad = Problem(code="bad_file", message="Other weights.")
    first = reconcile_pllm(pllm(failure=bad))
    seen = pllm(meta=meta(conditions=tuple(first.status.conditions)), status=first.status)
    again = reconcile_pllm(seen)
    assert isinstance(again.action, PushAdapter)
    assert (again.status, again.events) == (first.status, ())
    assert reconcile_pllm(replace(seen, failure=bad)).events == ()
    changed = reconcile_pllm(replace(seen, meta=meta(conditions=tuple(first.status.conditions), generation=2)))
    assert told(changed)["Stored"] == "-Storing"
