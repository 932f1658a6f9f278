"""Roll-outs of a style space: how many at a time, what a failing one does to the others, and what is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memory_cases import Story
from reconcile_cases import ADAPTER, NEXT, SPACE, condition, held, job, known, message, meta, on_server, pllm, space, told

from xpert_operator.reconcile import reconcile_pllm, reconcile_space
from xpert_operator.reconcile.rolling_out import turns
from xpert_operator.reconcile.views import AskExplanation, Known, Members, Problem, SpaceView
from xpert_operator.resources import Failure, PersonalizedLLMStatus, SpaceVersion, StyleSpaceStatus

AWAY = Problem(code="unavailable", message="No answer.")
OLD = StyleSpaceStatus(current=SpaceVersion(version=1, digest=SPACE))


def failed(*names: str) -> tuple[Failure, ...]:
    return tuple(Failure(name=name, reason="JobFailed", message="The base is gone. " * 14) for name in names)


@pytest.mark.parametrize(
    ("before", "waiting", "most", "found"),
    [
        ([], ["a", "b", "c"], 2, ["a", "b"]),
        (["b"], ["a", "b", "c"], 2, ["a", "b"]),
        (["x", "c"], ["a", "b", "c"], 2, ["a", "c"]),
        (["a", "b", "c"], ["a", "b", "c", "d"], 2, ["a", "b", "c"]),
        (["a"], [], 2, []),
    ],
)
def test_who_has_a_turn_keeps_it_and_the_next_ones_follow(
    before: list[str], waiting: list[str], most: int, found: list[str]
) -> None:
    assert turns(before, waiting, most) == found


def rolling(total: int, explained: int, *broken: str, before: str = "RollingOut") -> tuple[str, str | None, str]:
    """What is said of version 2, which version serves, and the message."""
    left = tuple(f"p{n}" for n in range(total - explained - len(broken)))
    members = Members(total=total, explained={NEXT: explained}, waiting=left, failed=failed(*broken))
    since = (condition("RolledOut", "False", before),)
    plan = reconcile_space(
        space(spec={"version": 2}, status=OLD, server=on_server(NEXT), members=members, meta=meta(conditions=since))
    )
    serves = plan.status.current.version if plan.status.current else None
    return told(plan)["RolledOut"], f"v{serves}", message(plan)


TWENTY = [f"bad{n:02d}" for n in range(20)]


@pytest.mark.parametrize(
    ("state", "reason", "serves", "says"),
    [
        (rolling(10, 3), "-RollingOut", "v1", "3 of 10 pLLMs are explained in version 2; version 1 serves until then."),
        (rolling(10, 3, "bad"), "-SomeFailed", "v1", "version 1 serves until then. 1 cannot be: bad (JobFailed)."),
        (rolling(10, 9, "bad"), "RolledOut", "v2", "9 of 10 pLLMs are explained in version 2. 1 cannot be: bad (JobFailed)."),
        (rolling(10, 8, "bad", "worse"), "-Stalled", "v1", "Over 1 failed: mend or delete them"),
        (rolling(200, 180, *TWENTY), "RolledOut", "v2", "bad04 (JobFailed) and 15 more."),
        (rolling(200, 179, *TWENTY, "more"), "-Stalled", "v1", "Over 20 failed"),
        (rolling(1, 0, "bad"), "-Stalled", "v1", "0 of 1"),
        (rolling(2, 1, "bad"), "RolledOut", "v2", "1 of 2"),
        (rolling(10, 9, before="SomeFailed"), "-SomeFailed", "v1", "9 of 10"),  # it is tried again
        (rolling(10, 8, "bad", before="Stalled"), "-Stalled", "v1", "Over 1 failed"),
        (rolling(10, 9, before="Stalled"), "-RollingOut", "v1", "9 of 10"),
        (rolling(10, 10, before="Stalled"), "RolledOut", "v2", "All 10 pLLMs are explained in version 2."),
    ],
)
def test_when_a_version_takes_over(state: tuple[str, str, str], reason: str, serves: str, says: str) -> None:
    assert state[:2] == (reason, serves)
    assert says in state[2]


def test_the_status_names_a_handful_however_many_fail() -> None:
    members = Members(total=10_000, explained={}, failed=failed(*(f"bad{n}" for n in range(10_000))))
    status = reconcile_space(space(spec={"version": 2}, status=OLD, server=on_server(NEXT), members=members)).status
    assert (status.failed, len(status.failures)) == (10_000, 5)
    assert len(status.model_dump_json()) < 6000
    members = Members(total=10_000, waiting=tuple(f"p{n}" for n in range(10_000)))
    status = reconcile_space(space(spec={"version": 2}, status=OLD, server=on_server(NEXT), members=members)).status
    assert len(status.explaining) == 32


def test_failures_and_a_stall_are_told_once() -> None:
    members = Members(total=2, waiting=("one",), failed=failed("two"))
    seen = space(spec={"version": 2}, status=OLD, server=on_server(NEXT), members=members)
    first = reconcile_space(seen)
    assert [(event.reason, event.is_warning) for event in first.events] == [("Stored", False), ("SomeFailed", True)]
    again = space(
        spec={"version": 2},
        status=first.status,
        server=on_server(NEXT),
        members=members,
        meta=meta(conditions=tuple(first.status.conditions)),
    )
    assert reconcile_space(again).events == ()


IN_SPACE = {"styleSpace": {"name": "words"}}
TURN, NO_TURN = SpaceView(base="starter", target=NEXT), SpaceView(base="starter", target=NEXT, has_turn=False)
BROKEN = known(held(explained=False), job("failed", error="no"))
ASK = AskExplanation("starter", "team.mine", NEXT)


@pytest.mark.parametrize(
    ("before", "wanted", "view", "retries", "action", "reason"),
    [
        ("Explained", SPACE, NO_TURN, False, None, "Queued"),
        ("Explained", SPACE, TURN, False, ASK, "Explaining"),
        ("JobFailed", SPACE, NO_TURN, False, None, "Queued"),  # it failed in another space
        ("JobFailed", SPACE, TURN, False, ASK, "Explaining"),
        ("Explaining", NEXT, TURN, False, None, "JobFailed"),
        ("JobFailed", NEXT, NO_TURN, False, None, "JobFailed"),
        ("JobFailed", NEXT, NO_TURN, True, None, "QueuedAgain"),
        ("Queued", NEXT, NO_TURN, False, None, "Queued"),
        ("QueuedAgain", NEXT, NO_TURN, False, None, "QueuedAgain"),
        ("QueuedAgain", NEXT, TURN, False, ASK, "Explaining"),
        ("ServerAway", NEXT, TURN, False, ASK, "Explaining"),  # the job that failed was in another space
        ("Queued", NEXT, TURN, False, ASK, "Explaining"),
    ],
)
def test_a_pllm_asks_when_it_has_its_turn(
    before: str, wanted: str, view: SpaceView, retries: bool, action: AskExplanation | None, reason: str
) -> None:
    since = (condition("Explained", "True" if before == "Explained" else "False", before),)
    status = PersonalizedLLMStatus(wanted_space=wanted)
    plan = reconcile_pllm(
        pllm(spec=IN_SPACE, space=view, status=status, meta=meta(conditions=since), server=BROKEN, retries=retries)
    )
    assert plan.action == action
    assert told(plan)["Explained"] == f"-{reason}"
    assert plan.status.wanted_space == NEXT


def test_a_job_in_another_space_is_waited_for_and_says_nothing_about_this_one() -> None:
    going = known(held(explained=False), job("running"))
    first = reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, server=going))
    assert (first.action, told(first)["Explained"], first.status.wanted_space) == (None, "-Explaining", None)
    since = meta(conditions=tuple(first.status.conditions))
    assert reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, status=first.status, meta=since, server=BROKEN)).action == ASK


def test_a_job_that_may_succeed_next_time_is_told_from_one_that_failed() -> None:
    server = known(held(explained=False), job("failed", code="storage", error="full"))
    plan = reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, status=PersonalizedLLMStatus(wanted_space=NEXT), server=server))
    assert told(plan)["Explained"] == "-JobInterrupted" and plan.again == 5


@pytest.mark.parametrize(("explained_in", "reason", "wanted"), [(SPACE, "-BadFile", NEXT), (NEXT, "Explained", None)])
def test_one_that_the_server_cannot_tell_of_holds_nobody_up(explained_in: str, reason: str, wanted: str | None) -> None:
    status = PersonalizedLLMStatus(style_space=explained_in)
    since = meta(conditions=(condition("Explained", "True", "Explained"),))
    cut = Problem(code="bad_file", message="A record is cut.")
    plan = reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, status=status, meta=since, server=cut))
    assert (told(plan)["Explained"], plan.status.wanted_space, plan.again) == (reason, wanted, 600)


OLD_SERVES = known(held(explained=False), job("running", done=3, total=9), catalogue="v1", is_served=True)


@pytest.mark.parametrize(
    ("spec", "server", "ready"),
    [
        ({}, OLD_SERVES, "OldVersionServes"),
        ({}, replace(OLD_SERVES, job=job("failed", error="no")), "OldVersionServes"),
        ({}, replace(OLD_SERVES, is_served=False, catalogue=None), "-Explaining"),
        ({"publish": False}, replace(OLD_SERVES, pllm=held(explained=False, published=False)), "OldVersionServes"),
        ({"publish": False}, OLD_SERVES, "-Publishing"),
        ({}, replace(OLD_SERVES, pllm=held(explained=False, published=False)), "-Explaining"),
        ({}, replace(OLD_SERVES, pllm=held(explained=False, quarantined="NaN")), "-Quarantined"),
        ({}, replace(OLD_SERVES, pllm=held(), job=None), "Ready"),
    ],
)
def test_one_that_the_old_version_serves_is_ready(spec: dict[str, bool], server: Known, ready: str) -> None:
    status = PersonalizedLLMStatus(wanted_space=NEXT)
    plan = reconcile_pllm(pllm(spec={**IN_SPACE, **spec}, space=TURN, status=status, server=server))
    assert told(plan)["Ready"] == ready
    if ready == "OldVersionServes":
        assert "serves while the new one is rolled out: The server" in message(plan)


def test_it_stays_ready_while_the_server_is_away() -> None:
    before = reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, server=OLD_SERVES)).status
    since = meta(conditions=tuple(before.conditions))
    plan = reconcile_pllm(pllm(spec=IN_SPACE, space=TURN, server=AWAY, status=before, meta=since))
    assert told(plan)["Ready"] == "OldVersionServes" and plan.again == 5


def test_what_fails_in_publishing_says_nothing_of_the_explanation() -> None:
    server = replace(OLD_SERVES, pllm=held(explained=False, published=False), job=None)
    refused = Problem(code="bad_input", message="No.")
    plan = reconcile_pllm(pllm(spec=IN_SPACE, space=NO_TURN, server=server, failure=refused))
    assert (told(plan)["Explained"], told(plan)["Published"]) == ("-Queued", "-BadInput")


def story(n: int, *, explanations: int) -> Story:
    """So many pLLMs in a style space of version 1."""
    found = Story(explanations=explanations)
    found.cluster.apply("BaseModel", "starter", {"source": "starter:base"})
    found.cluster.apply("StyleSpace", "words", {"baseModel": {"name": "starter"}, "version": 1, "digest": SPACE})
    for number in range(n):
        spec = {"baseModel": {"name": "starter"}, "adapter": ADAPTER, "styleSpace": {"name": "words"}}
        found.cluster.apply("PersonalizedLLM", f"p{number:03d}", spec)
    found.settle()
    return found


def roll_out(found: Story, version: int, digest: str) -> None:
    found.cluster.apply("StyleSpace", "words", {"baseModel": {"name": "starter"}, "version": version, "digest": digest})


def test_no_more_than_so_many_are_under_way_and_each_is_asked_for_once() -> None:
    found = story(100, explanations=7)
    assert found.space()["current"] == {"version": 1, "digest": SPACE}
    found.cluster.ready.clear()
    roll_out(found, 2, NEXT)
    found.settle()
    assert found.server.most == 7
    pllms = {(status, reason) for name, status, reason in found.cluster.ready if name != "words"}
    assert pllms == {("True", "OldVersionServes"), ("True", "Ready")}, "who waits for Ready does not see it go"
    assert sorted(found.server.asked) == sorted((f"team.p{n:03d}", space) for n in range(100) for space in (SPACE, NEXT))
    assert (found.space()["current"], found.space()["next"], found.space()["explained"]) == (
        {"version": 2, "digest": NEXT},
        None,
        100,
    )
    assert found.space()["explaining"] == []
    assert {found.pllm(f"p{n:03d}") for n in range(100)} == {("True", "Ready")}


def test_another_operator_goes_on_in_the_middle() -> None:
    found = story(40, explanations=4)
    roll_out(found, 2, NEXT)
    for _ in range(5):
        found.settle(jobs=6)
        found.replace()
    found.settle()
    assert found.server.most == 4
    assert found.space()["current"]["version"] == 2
    assert len(found.server.asked) == len(set(found.server.asked)) == 80


def test_one_that_fails_does_not_hold_up_the_others_and_joins_them_once_it_is_mended() -> None:
    found = story(30, explanations=2)
    found.server.broken = {"team.p000": "No such base here.", "team.p001": "No such base here."}
    roll_out(found, 2, NEXT)
    found.settle()
    assert found.server.most == 2
    status = found.space()
    assert (status["current"]["version"], status["explained"], status["failed"]) == (2, 28, 2)
    assert [failure["name"] for failure in status["failures"]] == ["p000", "p001"]
    assert "No such base here." in status["failures"][0]["message"]
    assert ("words", "SomeFailed") in found.cluster.events
    assert found.pllm("p000") == ("False", "JobFailed")
    assert ("p000", "True", "OldVersionServes") in found.cluster.ready, "until the others went over"
    found.server.broken = {}
    found.settle(retries=True)
    assert (found.space()["explained"], found.space()["failed"], found.space()["failures"]) == (30, 0, [])
    assert found.pllm("p000") == ("True", "Ready")
    assert found.server.most == 2, "those that are tried again have turns as well"


def test_those_that_fail_again_and_again_do_not_have_all_the_turns() -> None:
    found = story(40, explanations=2)
    found.server.broken = {f"team.p{n:03d}": "No." for n in range(4)}
    roll_out(found, 2, NEXT)
    for _ in range(50):
        found.settle(retries=True, jobs=2)  # by then it is time to try all of them again
    assert found.space()["explained"] == 36
    found.settle()
    assert found.space()["current"]["version"] == 2


def test_where_too_many_fail_the_old_version_goes_on() -> None:
    found = story(20, explanations=5)
    found.server.broken = {f"team.p{n:03d}": "No." for n in range(10)}
    roll_out(found, 2, NEXT)
    found.settle()
    found.settle(retries=True)
    assert found.space()["current"]["version"] == 1
    assert found.rolled_out()["reason"] == "Stalled"
    assert found.cluster.events.count(("words", "Stalled")) == 1
    assert found.server.most == 5
    roll_out(found, 3, "9" * 64)
    found.server.broken = {}
    found.settle()
    assert found.space()["current"]["version"] == 3 and found.rolled_out()["reason"] == "RolledOut"
