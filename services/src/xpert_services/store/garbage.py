"""Garbage collection: removes artifacts that no record refers to, and never one that a writer has just referred to.

The protocol and its reasons are in docs/adr/0005-store.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from xpert.core.errors import ConflictError, InputError
from xpert_services.store.cards import Card, State, read_card, write_card
from xpert_services.store.keys import BLOBS, CARDS, PARTS, RECORDS, STAGING, digest_of
from xpert_services.store.objects import ObjectStore
from xpert_services.store.records import Records


@dataclass(frozen=True)
class Retention:
    """How long an artifact that no record refers to is kept after a writer last touched it.

    Attributes
    ----------
    unreferenced
        For every kind that ``kinds`` does not name.
    kinds
        Kind -> time.
    """

    unreferenced: timedelta = timedelta(days=1)
    kinds: Mapping[str, timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min([self.unreferenced, *self.kinds.values()]) < timedelta(0):
            raise InputError("A retention cannot be negative. Give times from zero.")

    def of(self, kind: str) -> float:
        """Return the time for a kind of artifact, in seconds."""
        return self.kinds.get(kind, self.unreferenced).total_seconds()


@dataclass(frozen=True)
class Condemned:
    """A card that this collector has condemned, with the etag that shows whether anyone touched it since."""

    card: Card
    etag: str


@dataclass(frozen=True)
class Collected:
    """What a collection removed.

    Attributes
    ----------
    artifacts
        Digests of the artifacts.
    n_bytes
        Their bytes.
    n_orphans
        Bytes of uploads that never became an artifact, as a number of objects.
    """

    artifacts: tuple[str, ...]
    n_bytes: int
    n_orphans: int


class GarbageCollector:
    """One collection, in three steps; any number of collectors and writers may run beside it.

    Parameters
    ----------
    objects
        Where the store is.
    records
        Its records.
    retention
        What is too young to be collected.
    """

    def __init__(self, objects: ObjectStore, records: Records, *, retention: Retention) -> None:
        self._objects = objects
        self._records = records
        self._retention = retention

    def run(self) -> Collected:
        """Condemn, look again and sweep, then clear what interrupted uploads left.

        Raises
        ------
        FileFormatError
            A record or a card cannot be read, so that nothing is known to be unreferenced; nothing is removed.
        """
        swept = self.sweep(self.condemn())
        return Collected(tuple(card.digest for card in swept), sum(card.size for card in swept), self.clear_orphans())

    def condemn(self) -> list[Condemned]:
        """Mark the artifacts that are old enough and that no record refers to."""
        now, referenced, condemned = self._objects.now(), self._referenced(), []
        for info in self._objects.scan(CARDS):
            digest, _ = digest_of(info.key)
            found = None if digest in referenced else read_card(self._objects, digest)
            if found is None or found[0].state == "dead":
                continue
            card, etag = found
            # Not the listing's age: a writer may have touched the card since, which the swap below would not notice.
            if now - self._objects.stat(info.key).modified < self._retention.of(card.kind):
                continue
            # No writer can have referred to an artifact that never was whole: it needs no second look.
            state: State = "dead" if card.state == "pending" else "condemned"
            try:
                etag = write_card(self._objects, card.turned(state), etag)
            except ConflictError:
                continue  # a writer touched it
            if state == "dead":
                self._objects.delete(card.blob)
            else:
                condemned.append(Condemned(card.turned(state), etag))
        return condemned

    def sweep(self, condemned: Sequence[Condemned]) -> list[Card]:
        """Look a second time, and remove what is still unreferenced and untouched."""
        referenced, swept = self._referenced() if condemned else frozenset(), []
        for item in condemned:
            kept = item.card.digest in referenced
            try:
                write_card(self._objects, item.card.turned("live" if kept else "dead"), item.etag)
            except ConflictError:
                continue  # a writer touched it
            if not kept:
                self._objects.delete(item.card.blob)
                swept.append(item.card)
        return swept

    def clear_orphans(self) -> int:
        """Remove bytes that their artifact's card does not name: it named them before they came and never will again.

        Where the card names them and they are whole, what other uploads of the same left is removed.
        """
        n_orphans = 0
        for info in self._objects.scan(BLOBS):
            if self._state(info.key) == "dead":
                self._objects.delete(info.key)
                n_orphans += 1
        for key in self._objects.unfinished(BLOBS):
            state = self._state(key)
            if state in ("dead", "live", "condemned"):
                self._objects.discard(key)
                n_orphans += state == "dead"
        return n_orphans

    def clear_stale(self) -> int:
        """Remove parts of uploads, and files that wait to be checked, as old as artifacts are kept without reference.

        No record or card ever names them, so this has no part in the protocol.
        """
        age = self._retention.unreferenced.total_seconds()
        return self._clear_old(PARTS, age) + self._clear_old(STAGING, age)

    def _clear_old(self, prefix: str, age: float) -> int:
        limit, n_removed = self._objects.now() - age, 0
        for info in list(self._objects.scan(prefix)):
            if info.modified <= limit:
                self._objects.delete(info.key)
                n_removed += 1
        for key in list(self._objects.unfinished(prefix)):
            self._objects.discard(key)
        return n_removed

    def _state(self, key: str) -> State | None:
        """Return the state of an upload: its card's where that names it, else "dead"; None where there is no card."""
        digest, generation = digest_of(key)
        found = read_card(self._objects, digest)
        if found is None:
            return None
        return found[0].state if found[0].generation == generation else "dead"

    def _referenced(self) -> frozenset[str]:
        found: set[str] = set()
        for info in self._objects.scan(RECORDS):
            found |= self._records.references(info.key)
        return frozenset(found)
