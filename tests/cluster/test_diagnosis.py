"""Why a pLLM is not ready, by tables of resources; and that the advice covers what the operator says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from cluster_cases import merge, pllm, resource, space

import xpert_operator
from xpert.core.errors import MismatchError
from xpert_operator.plugin.diagnosis import ADVICE, diagnose
from xpert_operator.plugin.looking import compare
from xpert_operator.reconcile.views import REASONS

SOURCES = Path(str(xpert_operator.__file__)).parent
NOT_REASONS = {
    *("Accepted", "Stored", "Explained", "Published", "Ready", "RolledOut", "Unlisted", "True", "False", "Unknown"),
    *("Delete", "Retain", "Refuse", "Cascade", "Ignore", "Status"),
}
"""Types of conditions, reasons of what holds, and values of fields."""


def told(body: dict[str, Any], reason: str, message: str = "told", *, seen: int = 1) -> dict[str, Any]:
    body["metadata"] |= {"namespace": "team", "generation": 1}
    ready = {"type": "Ready", "status": "True" if reason == "Ready" else "False", "reason": reason, "message": message}
    body["status"] = {"conditions": [ready], "observedGeneration": seen}
    return body


def base(reason: str = "Ready") -> dict[str, Any]:
    return told(resource("BaseModel", "starter", {"source": "starter:base"}), reason)


@pytest.mark.parametrize(
    ("looked_at", "others", "cause", "advised"),
    [
        (told(pllm(), "Ready"), [base()], "mine Ready", "It is ready"),
        (told(pllm(), "BadFile"), [base()], "mine BadFile", "sha256sum"),
        (told(pllm(), "BaseModelMissing"), [], "starter BaseModelMissing", "Apply this BaseModel"),
        (told(pllm(), "BaseModelNotReady"), [base("ServerAway")], "starter ServerAway", "Look at the server"),
        (told(pllm(), "BaseModelNotReady"), [base()], "mine BaseModelNotReady", "kubectl wait"),
        (told(pllm(), "Explaining", seen=0), [base()], "mine NotLookedAt", "Is the operator running"),
        (
            told(pllm(styleSpace={"name": "words"}), "StyleSpaceNotReady"),
            [base(), told(space(), "Building")],
            "words Building",
            "sspace/words",
        ),
        (told(pllm(styleSpace={"name": "words"}), "StyleSpaceMissing"), [base()], "words StyleSpaceMissing", "namespace 'team'"),
        (
            told(merge("mix", ("one", 0.5), ("two", 0.5)), "SourceNotReady"),
            [base(), told(pllm("one"), "Ready"), told(pllm("two"), "Quarantined")],
            "two Quarantined",
            "Delete it and apply it anew",
        ),
        (
            told(merge("mix", ("one", 1.0)), "SourceNotReady"),
            [base("AccessDenied"), told(merge("one", ("two", 1.0)), "SourceNotReady"), told(pllm("two"), "BaseModelNotReady")],
            "starter AccessDenied",
            "token",
        ),
        (
            told(merge("mix", ("one", 1.0)), "SourceNotReady"),
            [base(), told(merge("one", ("mix", 1.0)), "SourceNotReady")],
            "one SourceNotReady",
            "kubectl wait",
        ),
        (told(pllm(), "InUse"), [base()], "mine InUse", '{"spec":{"dependents":"Cascade"}}'),
    ],
)
def test_the_cause_is_found(looked_at: dict[str, Any], others: list[dict[str, Any]], cause: str, advised: str) -> None:
    bodies = {(body["kind"], body["metadata"]["name"]): body for body in [looked_at, *others]}
    found = diagnose(looked_at, lambda kind, name: bodies.get((kind, name)))
    assert f"{found.cause.name} {found.cause.reason}" == cause
    assert advised in found.advice
    assert found.chain[0].name == looked_at["metadata"]["name"]


def test_a_style_space_names_those_that_hold_it_up() -> None:
    stalled = told(space(), "Stalled", "8 of 10 pLLMs are explained in version 2.")
    failures = [{"name": name, "reason": "JobFailed", "message": "The base is gone."} for name in ("one", "two")]
    stalled["status"]["failures"] = failures
    found = diagnose(stalled, lambda kind, name: base(), "StyleSpace")
    assert [(link.role, link.name, link.reason) for link in found.chain] == [
        ("itself", "words", "Stalled"),
        ("base", "starter", "Ready"),
        ("member", "one", "JobFailed"),
        ("member", "two", "JobFailed"),
    ]
    assert (found.cause.name, found.cause.reason) == ("words", "Stalled")
    assert "kubectl xpert why NAME -n team" in found.advice


def test_one_that_is_served_by_the_old_version_is_said_to_be_ready() -> None:
    served = told(pllm(styleSpace={"name": "words"}), "Ready")
    served["status"]["conditions"][0]["reason"] = "OldVersionServes"
    found = diagnose(served, lambda kind, name: told(space(), "RollingOut") if kind == "StyleSpace" else base())
    assert found.advice.startswith("It is ready: phones are served by the old version")


def test_there_is_advice_for_every_reason() -> None:
    said = set(REASONS.values())
    for path in (SOURCES / "reconcile").glob("*.py"):
        strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        used = [node for node in strings if isinstance(node, str) and re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)*", node)]
        said |= {reason for reason in used if f'"{reason}", ' in path.read_text() or f'return "{reason}"' in path.read_text()}
    missing = said - set(ADVICE) - NOT_REASONS
    assert not missing
    assert {"SourceNotReady", "InUse", "RollingOut", "NameTooLong"} <= said


def explained(name: str, space_: str, **words: tuple[float, float, float]) -> dict[str, Any]:
    body = pllm(name)
    listed = [{"word": word, "lower": low, "coefficient": at, "upper": high} for word, (low, at, high) in words.items()]
    return {**body, "status": {"words": listed, "styleSpace": space_}}


def test_words_are_compared_where_they_are_of_one_space() -> None:
    one = explained("one", "a", poetic=(0.7, 0.8, 0.9), formal=(0.1, 0.2, 0.4), terse=(0.3, 0.4, 0.5))
    two = explained("two", "a", poetic=(0.1, 0.2, 0.3), formal=(0.3, 0.5, 0.7))
    rows = {row["word"]: row for row in compare(one, two)}
    assert list(rows) == ["poetic", "formal", "terse"]
    assert rows["poetic"]["difference"] == pytest.approx(-0.6)
    assert (rows["poetic"]["overlap"], rows["formal"]["overlap"], rows["terse"]["overlap"]) == (False, True, None)
    with pytest.raises(MismatchError, match="different spaces"):
        compare(one, explained("other", "b", poetic=(0.1, 0.2, 0.3)))
    with pytest.raises(MismatchError, match="not explained yet"):
        compare(one, explained("new", "a"))
