"""`kubectl xpert status`, `why` and `diff`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.markup import escape

from xpert.cli.output import JsonOption, Output, table
from xpert.core.errors import MismatchError
from xpert_operator.plugin.access import (
    OPERATOR_NAMESPACE,
    Access,
    Body,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    access,
)
from xpert_operator.plugin.diagnosis import diagnose
from xpert_operator.plugin.telling import age, condition, conditions
from xpert_operator.resources import PLLM, STYLE_SPACE

AllOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a PersonalizedLLM, or NAMESPACE/NAME.")]
SILENT = timedelta(minutes=1)
"""After this a leading operator that did not renew its lease is gone: another would have taken over long before."""

N_EVENTS = 8
COLUMNS = ("name", "base", "words", "strength", "published", "ready", "reason", "age")


def status(
    namespace: NamespaceOption = None,
    all_namespaces: AllOption = False,
    not_ready: Annotated[bool, typer.Option("--not-ready", help="Only those that are not ready.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json_: JsonOption = False,
) -> None:
    """Show all personal LLMs: their words, strength, whether they are published and ready, and why not."""
    output = Output(as_json=json_)
    with access(kubeconfig, context, namespace) as cluster:
        rows = [_row(body) for body in cluster.listed(PLLM.name, None if all_namespaces else cluster.namespace)]
    n_ready = sum(row["ready"] == "True" for row in rows)
    shown = [row for row in rows if not (not_ready and row["ready"] == "True")]
    columns = ("namespace", *COLUMNS) if all_namespaces else COLUMNS
    title = f"{n_ready} of {len(rows)} ready" + ("" if all_namespaces else f" in namespace '{cluster.namespace}'")
    view = table(title, columns, [[row[column] for column in columns] for row in shown], left=len(columns))
    output.show({"ready": n_ready, "total": len(rows), "pllms": shown}, view)


def _row(body: Body) -> dict[str, Any]:
    meta, told, ready = body["metadata"], body.get("status") or {}, condition(body, "Ready")
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "base": body["spec"]["baseModel"]["name"],
        "words": told.get("summary"),
        "strength": told.get("strength"),
        "published": condition(body, "Published").get("status"),
        "ready": ready.get("status"),
        "reason": ready.get("reason", "NotLookedAt"),
        "age": age(meta.get("creationTimestamp")),
    }


def why(
    name: NameArgument,
    space: Annotated[
        bool, typer.Option("--space", help="NAME is that of a StyleSpace: how far its version is, and who fails.")
    ] = False,
    namespace: NamespaceOption = None,
    operator_namespace: Annotated[str, typer.Option(help="Where the operator runs.")] = OPERATOR_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json_: JsonOption = False,
) -> None:
    """Say why a personal LLM is not ready, which resource holds it up, and what to do next."""
    output, kind = Output(as_json=json_), STYLE_SPACE.name if space else PLLM.name
    with access(kubeconfig, context, namespace) as cluster:
        place, name = _place(name, cluster)
        body = cluster.needed(kind, name, place)

        @cache
        def find(kind: str, other: str) -> Body | None:
            return cluster.find(kind, other, place)

        found = diagnose(body, find, kind)
        events = cluster.events(kind, name, place)
        silent = _silent(cluster, operator_namespace)
    data = {
        "name": name,
        "namespace": place,
        "ready": found.chain[0].ready,
        "conditions": conditions(body),
        "chain": [asdict(link) for link in found.chain],
        "events": [{part: event.get(part) for part in ("lastTimestamp", "type", "reason", "message")} for event in events],
        "cause": asdict(found.cause),
        "next": found.advice,
        "operator_silent_s": silent,
    }
    output.show(data, *_views(data))
    if silent:
        output.warn(
            f"The operator did not renew its Lease in namespace '{operator_namespace}' for {silent:.0f} s: is it running?"
        )


def _views(data: dict[str, Any]) -> Iterator[RenderableType]:
    """Lay out for people what `why` found."""
    told = [[c["type"], c["status"], c["reason"], age(c["lastTransitionTime"]), c["message"]] for c in data["conditions"]]
    yield table(
        f"Conditions of {data['namespace']}/{data['name']}", ("condition", "status", "reason", "for", "message"), told, left=5
    )
    chain = [
        [f"{link['role']} {link['kind']} {link['name']}", link["ready"], link["reason"], link["message"]]
        for link in data["chain"]
    ]
    yield table("It and what it refers to", ("resource", "ready", "reason", "message"), chain, left=4)
    happened = [[age(e["lastTimestamp"]), e["type"], e["reason"], e["message"]] for e in data["events"][-N_EVENTS:]]
    yield table("Events", ("ago", "type", "reason", "message"), happened, left=4)
    cause = data["cause"]
    yield "[bold]Cause:[/] " + escape("{kind} {name}: {reason}".format(**cause))
    yield f"[bold]Next:[/] {escape(data['next'])}"


def _silent(cluster: Access, namespace: str) -> float | None:
    """Return for how long the operator has been silent, None where it is not, or where nobody can tell."""
    renewed = cluster.operator_renewed(namespace)
    passed = datetime.now(UTC) - renewed if renewed else timedelta()
    return round(passed.total_seconds(), 1) if passed > SILENT else None


def diff(
    first: NameArgument,
    second: NameArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare the words of two personal LLMs: differences, and whether their intervals overlap."""
    output = Output(as_json=json_)
    with access(kubeconfig, context, namespace) as cluster:
        bodies = [cluster.needed(PLLM.name, name, place) for place, name in (_place(given, cluster) for given in (first, second))]
    compared = compare(*bodies)
    title = f"{first} against {second}: {sum(not row['overlap'] for row in compared if row['overlap'] is not None)} words apart"
    rows = [
        [row["word"], _interval(row["first"]), _interval(row["second"]), row["difference"], row["overlap"]] for row in compared
    ]
    view = table(title, ("word", first, second, "difference", "intervals overlap"), rows)
    output.show({"first": first, "second": second, "words": compared}, view)
    output.say("A dash: not among the strongest words of the one, which its status holds.")


def compare(first: Body, second: Body) -> list[dict[str, Any]]:
    """Return the words of two pLLMs side by side, the largest difference first.

    Raises
    ------
    MismatchError
        They are explained in different style spaces or one is not explained yet: their coefficients say nothing of each other.
    """
    names = [body["metadata"]["name"] for body in (first, second)]
    told = [body.get("status") or {} for body in (first, second)]
    for name, status_ in zip(names, told, strict=True):
        if not status_.get("words"):
            raise MismatchError(f"'{name}' is not explained yet, so there is nothing to compare. See: kubectl xpert why {name}.")
    spaces = [str(status_.get("styleSpace")) for status_ in told]
    if spaces[0] != spaces[1]:
        raise MismatchError(
            f"'{names[0]}' is explained in style space {spaces[0][:12]}, '{names[1]}' in {spaces[1][:12]}: coefficients of "
            "different spaces cannot be compared. Give both one spec.styleSpace, or wait until its new version is rolled out."
        )
    left, right = ({word["word"]: word for word in status_["words"]} for status_ in told)
    rows = [_compared(word, left.get(word), right.get(word)) for word in {**left, **right}]
    return sorted(rows, key=lambda row: (row["difference"] is None, -abs(row["difference"] or 0)))


def _compared(word: str, first: Body | None, second: Body | None) -> dict[str, Any]:
    difference = overlap = None
    if first and second:
        difference = second["coefficient"] - first["coefficient"]
        overlap = first["lower"] <= second["upper"] and second["lower"] <= first["upper"]
    return {"word": word, "first": first, "second": second, "difference": difference, "overlap": overlap}


def _interval(word: Body | None) -> str | None:
    return f"{word['coefficient']:.2f} ({word['lower']:.2f} to {word['upper']:.2f})" if word else None


def _place(given: str, cluster: Access) -> tuple[str, str]:
    """Return namespace and name."""
    namespace, slash, name = given.rpartition("/")
    return (namespace, name) if slash else (cluster.namespace, given)
