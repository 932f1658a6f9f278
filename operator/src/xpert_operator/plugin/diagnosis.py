"""Why a pLLM or a style space is not ready: from its conditions to what holds it up, and what to do there. No calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xpert_operator.plugin.access import Body
from xpert_operator.plugin.telling import condition, is_looked_at
from xpert_operator.resources import BASE_MODEL, PLLM, STYLE_SPACE

Find = Callable[[str, str], Body | None]
"""``find(kind, name)``, in the namespace of the pLLM."""

WAIT = "Nothing to mend: it is being worked on. kubectl wait --for=condition=Ready {what} -n {namespace} --timeout=30m"
MEND = "It is tried again by itself, at the latest after ten minutes."
ANOTHER = "Delete it and apply it anew with that put right; what a pLLM is made of does not change."
ADVICE = {
    "NotLookedAt": "Is the operator running? kubectl get pods -A -l app.kubernetes.io/name=xpert-operator, and its logs.",
    "Working": WAIT,
    "Waiting": WAIT,
    "Storing": WAIT,
    "Explaining": WAIT,
    "Publishing": WAIT,
    "Registering": WAIT,
    "Building": WAIT,
    "RollingOut": WAIT,
    "Queued": WAIT,
    "QueuedAgain": WAIT,
    "OldVersionServes": "It is ready: phones are served by the old version of its style space. How far the new one is: the line "
    "of the StyleSpace above, or kubectl get sspace -w.",
    "SomeFailed": "The others are explained all the same. The message names who is not: kubectl xpert why NAME -n {namespace}",
    "Stalled": "The old version serves until fewer fail. The message names some: kubectl xpert why NAME -n {namespace}. All: "
    "kubectl xpert status -n {namespace}",
    "Deleting": "It is going: nothing to do.",
    "BaseModelMissing": "Apply this BaseModel (it belongs to the cluster: an administrator does): kubectl explain bm.spec",
    "StyleSpaceMissing": "Apply this StyleSpace in namespace '{namespace}': kubectl explain sspace.spec. Or take spec.styleSpace "
    "away: then it is explained in the server's default one.",
    "SourceMissing": "Apply this PersonalizedLLM in namespace '{namespace}'; the merge goes on by itself.",
    "BaseModelNotReady": WAIT,
    "StyleSpaceNotReady": WAIT,
    "SourceNotReady": WAIT,
    "ServerAway": "Look at the server: kubectl get pods -A -l app.kubernetes.io/name=xpert-server, and its logs. " + MEND,
    "AccessDenied": "The message says who refused: look at the Secret that spec.adapter.secretRef names, or at the operator's "
    "token for the server. " + MEND,
    "NotFound": "Put the file, Secret or ConfigMap that the message names there. " + MEND,
    "Conflict": "Somebody else changes the same on the server. " + MEND,
    "Mismatch": "The parts do not belong together, see the message. " + ANOTHER,
    "BadFile": "Compare sha256sum adapter_model.safetensors with spec.adapter.digest. Where the file is wrong, put the right one "
    "there, and it goes on. Where the digest is wrong: " + ANOTHER,
    "UnsafeFile": "Only safetensors are taken. Write the adapter as such, and apply it under its new digest.",
    "TooLarge": "Raise the operator's --most-mib and the server's, or make the adapter smaller (its rank).",
    "BadInput": "The server does not take it, see the message. " + ANOTHER,
    "Failed": "See the message and the operator's logs. " + MEND,
    "JobFailed": "See the message and the server's logs for this job: xpert job ID. " + MEND,
    "JobInterrupted": "The server's store or network failed it, see the message. " + MEND,
    "Quarantined": "The server found the adapter unusable. " + ANOTHER,
    "NameTaken": "Another pLLM has this name on the server: remove it there (xpert ls), or take another name.",
    "NameTooLong": "Make one with a shorter name, in this namespace or in one with a shorter name.",
    "BaseDigestDiffers": "Was it trained on another base? Name that one. " + ANOTHER,
    "OtherBase": "Take parts of one base. " + ANOTHER,
    "InUse": "Delete those that are merged from it first, or: kubectl patch pllm {name} -n {namespace} --type=merge "
    '-p \'{{"spec":{{"dependents":"Cascade"}}}}\' (deletes them) or "Ignore" (they stay).',
    "LeftBehind": "Delete the server's copy by hand: the message names it.",
}
"""Reason of a condition -> what to do."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One resource of the chain.

    Attributes
    ----------
    role
        What it is to what is looked at: itself, base, space, source of a merge, or a member that cannot be explained in it.
    ready, reason, message
        Of its condition Ready; ``Missing`` and ``NotLookedAt`` where it has none.
    """

    role: str
    kind: str
    name: str
    ready: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a pLLM or a style space is not ready.

    Attributes
    ----------
    chain
        Itself, then what it refers to.
    cause
        The one that holds it up.
    advice
        What to do there.
    """

    chain: tuple[Link, ...]
    cause: Link
    advice: str


def diagnose(body: Body, find: Find, kind: str = PLLM.name) -> Diagnosis:
    """Find what holds a pLLM, or a style space, up."""
    links = (*(_link(*part, find=find) for part in _referred(body)), *_failing(body))
    itself = _seen("itself", kind, body)
    cause = _cause(body, itself, find, frozenset())
    if cause.ready == "True":
        return Diagnosis(chain=(itself, *links), cause=cause, advice=ADVICE.get(cause.reason, "It is ready."))
    short = {BASE_MODEL.name: BASE_MODEL.short, STYLE_SPACE.name: STYLE_SPACE.short}.get(cause.kind, PLLM.short)
    advice = ADVICE.get(cause.reason, "See the message, and the operator's logs.")
    namespace = body["metadata"].get("namespace", "")
    return Diagnosis(
        chain=(itself, *links),
        cause=cause,
        advice=advice.format(name=cause.name, namespace=namespace, what=f"{short}/{cause.name}"),
    )


def _failing(body: Body) -> list[Link]:
    """Return the first of the pLLMs that cannot be explained in a style space."""
    failures = (body.get("status") or {}).get("failures") or []
    return [
        Link(role="member", kind=PLLM.name, name=found["name"], ready="-", reason=found["reason"], message=found["message"])
        for found in failures
    ]


def _cause(body: Body, link: Link, find: Find, above: frozenset[str]) -> Link:
    """Go down to the one that does not merely wait for another."""
    if link.reason == "NotLookedAt" or not link.reason.startswith(("BaseModel", "StyleSpace", "Source")):
        return link
    for role, kind, name in _referred(body):
        if not link.reason.startswith(kind if role != "source" else "Source") or name in above:
            continue
        below = _link(role, kind, name, find=find)
        found = find(kind, name)
        if found is None:
            return below
        if below.ready != "True":
            return _cause(found, below, find, above | {link.name})
    return link


def _referred(body: Body) -> list[tuple[str, str, str]]:
    """Return role, kind and name of what a resource refers to."""
    spec = body["spec"]
    found = [("base", BASE_MODEL.name, spec["baseModel"]["name"])] if "baseModel" in spec else []
    if "styleSpace" in spec:
        found.append(("space", STYLE_SPACE.name, spec["styleSpace"]["name"]))
    return found + [("source", PLLM.name, source["name"]) for source in (spec.get("merge") or {}).get("sources", [])]


def _link(role: str, kind: str, name: str, *, find: Find) -> Link:
    body = find(kind, name)
    if body is not None:
        return _seen(role, kind, body)
    reason = "SourceMissing" if role == "source" else f"{kind}Missing"
    return Link(role=role, kind=kind, name=name, ready="False", reason=reason, message=f"There is no {kind} '{name}'.")


def _seen(role: str, kind: str, body: Body) -> Link:
    found, name = condition(body, "Ready"), body["metadata"]["name"]
    is_deleted = "deletionTimestamp" in body["metadata"]
    if not found or not (is_looked_at(body) or is_deleted):
        message = "The operator has not looked at it since it was changed."
        return Link(role=role, kind=kind, name=name, ready="Unknown", reason="NotLookedAt", message=message)
    return Link(
        role=role, kind=kind, name=name, ready=found["status"], reason=found["reason"], message=found.get("message") or ""
    )
