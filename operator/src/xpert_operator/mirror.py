"""The resources as they were last seen, and who refers to whom: changes fan out by index, never by listing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xpert_operator.resources import BASE_MODEL, PLLM, STYLE_SPACE

WORKED_ON = frozenset({"Explaining", "Explained", "Queued", "QueuedAgain", "Waiting"})
"""Reasons of the condition Explained that nobody else has to hear of."""

Body = Mapping[str, Any]
SECRET, CONFIG_MAP = "Secret", "ConfigMap"
KEPT = ("name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp", "finalizers")
"""Of the metadata; annotations and managed fields are several times as large as the rest, and nobody here asks for them."""


@dataclass(frozen=True, order=True)
class Key:
    """A resource; ``namespace`` is empty for what belongs to the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


def key_of(body: Body) -> Key:
    """Return the key of a resource's body."""
    return Key(body["kind"], body["metadata"].get("namespace") or "", body["metadata"]["name"])


class Mirror:
    """Keeps what the watch brought.

    Parameters
    ----------
    changed
        Told of every resource that should be looked at.
    """

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._bodies: dict[Key, Body] = {}
        self._referrers: defaultdict[Key, set[Key]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._bodies)

    def get(self, key: Key) -> Body | None:
        """Return a resource."""
        return self._bodies.get(key)

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._bodies))

    def referrers(self, key: Key, kind: str) -> list[Key]:
        """List the resources of a kind that refer to one."""
        return sorted(found for found in self._referrers.get(key, ()) if found.kind == kind)

    def put(self, body: Body) -> None:
        """Take a resource as it is now; one that is older than what is held is left out."""
        key, held = key_of(body), self._bodies.get(key_of(body))
        if held is not None and _version(held) >= _version(body):
            return
        meta = body["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.drop(body)  # the answer to its last write may come after the watch told that it is gone
            return
        self._bodies[key] = {
            "kind": body["kind"],
            "metadata": {name: meta[name] for name in KEPT if name in meta},
            **{name: body[name] for name in ("spec", "status") if name in body},
        }
        self._refer(key, references(held), references(body))
        if held is None or _asked(held) != _asked(body) or _finalizers(held) - _finalizers(body):
            self._changed(key)
        if held is None or _told(held) != _told(body):
            self._tell(key, {*references(held), *references(body)})
        for name in sorted(_turns(body) - _turns(held)):
            self._changed(Key(PLLM.name, key.namespace, name))  # not all of ten thousand that refer to it

    def drop(self, body: Body) -> None:
        """Take that a resource is gone."""
        key = key_of(body)
        held = self._bodies.pop(key, None)
        self._refer(key, references(held), ())
        self._tell(key, references(held))

    def settle(self, kind: str, listed: Iterable[Key], version: int) -> None:
        """Drop what a listing of that version did not have: a watch that was cut does not tell what was deleted meanwhile."""
        kept = set(listed)
        for key, body in list(self._bodies.items()):
            if key.kind == kind and key not in kept and _version(body) <= version:
                self.drop(body)

    def touch(self, key: Key) -> None:
        """Have everyone look again who refers to something that is not held here: a Secret or a ConfigMap."""
        self._tell(key, ())

    def _refer(self, key: Key, before: Iterable[Key], now: Iterable[Key]) -> None:
        for target in set(before) - set(now):
            self._referrers[target].discard(key)
            if not self._referrers[target]:
                del self._referrers[target]
        for target in now:
            self._referrers[target].add(key)

    def _tell(self, key: Key, referred: Iterable[Key]) -> None:
        """Have everyone look again who refers to a resource, and what it refers to that counts its referrers."""
        for other in sorted(self._referrers.get(key, ())):
            self._changed(other)
        for target in sorted(referred):
            held = self._bodies.get(target)
            # A base counts those who refer to it only where it is to go.
            if held and (target.kind != BASE_MODEL.name or held["metadata"].get("deletionTimestamp")):
                self._changed(target)


def references(body: Body | None) -> tuple[Key, ...]:
    """Return what a resource refers to."""
    if body is None or body["kind"] == BASE_MODEL.name:
        return ()
    spec, namespace = body.get("spec") or {}, body["metadata"].get("namespace") or ""
    secret = (spec.get("adapter") or {}).get("secretRef")
    texts = [place["configMap"] for name in ("exemplars", "probes") if (place := spec.get(name))]
    found = [Key(BASE_MODEL.name, "", spec["baseModel"]["name"])]
    if space := spec.get("styleSpace"):
        found.append(Key(STYLE_SPACE.name, namespace, space["name"]))
    found += [Key(PLLM.name, namespace, source["name"]) for source in (spec.get("merge") or {}).get("sources", [])]
    found += [Key(SECRET, namespace, secret["name"])] if secret else []
    found += [Key(CONFIG_MAP, namespace, text["name"]) for text in texts]
    return tuple(found)


def condition(body: Body, type_: str) -> Mapping[str, Any]:
    """Return one condition of a resource, empty where it has none."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == type_), {})


def _version(body: Body) -> int:
    # Kubernetes promises since 1.35 that these are numbers that grow.
    return int(body["metadata"].get("resourceVersion") or 0)


def _asked(body: Body) -> tuple[Any, ...]:
    """Return what the owner asks for; what the operator writes is not among it, or each write would lead to the next."""
    meta = body["metadata"]
    return meta.get("uid"), meta.get("generation"), str(meta.get("deletionTimestamp") or "")


def _finalizers(body: Body) -> set[str]:
    return set(body["metadata"].get("finalizers") or ())


def _told(body: Body) -> tuple[Any, ...]:
    """Return what others go by."""
    status = body.get("status") or {}
    stored = condition(body, "Stored").get("status")
    version = [(status.get(name) or {}).get("digest") for name in ("current", "next")]
    accepted, reason = condition(body, "Accepted").get("status"), condition(body, "Explained").get("reason")
    # A style space counts failures. That a pLLM waits or is worked on it knows: it gave the turn.
    failed = None if reason in WORKED_ON else reason
    return *_asked(body), stored, status.get("digest"), status.get("styleSpace"), *version, accepted, failed


def _turns(body: Body | None) -> set[str]:
    """Return the pLLMs whose turn it is to be explained in a style space."""
    return set(((body or {}).get("status") or {}).get("explaining") or ())
