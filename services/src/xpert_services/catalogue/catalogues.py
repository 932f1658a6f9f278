"""The catalogues of a store: one of each base in each style space."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xpert.core.catalogue import Catalogue, Compact, read_compact
from xpert.core.cutting import Cells, cut
from xpert.core.delta import export_delta
from xpert.core.errors import NotFoundError
from xpert.core.explanation import Explanation
from xpert.core.files import sha256_hex
from xpert.models.centring import kmeans
from xpert.wire import CatalogueInfo
from xpert_services.metering import CACHE
from xpert_services.registry import Bases, Pllms
from xpert_services.store import Draft, Record, Store

COLLECTION = "catalogues"
N_VERSIONS = 32
"""How many changes back a delta reaches."""

FRESH_S = 1.0
"""For so many seconds a catalogue is served without a look at its record: then one caller looks, others are served meanwhile."""

MOST_IDS = 100_000
"""Removed rows that the history may name in all: a record is a small object."""


@dataclass(frozen=True, eq=False)
class Built:
    """A catalogue at one version.

    Attributes
    ----------
    info
        What it is.
    compact
        Its compact form.
    history
        Versions, oldest first: what each changed against the one before.
    cell_capacity
        pLLMs a cell holds; None: as many as fit.
    """

    info: CatalogueInfo
    compact: bytes = field(repr=False)
    history: tuple[Mapping[str, Any], ...] = field(repr=False)
    cell_capacity: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cells(self) -> Cells:
        """The catalogue cut into cells, by whoever asks first."""
        with self._lock:
            return self._cells

    @cached_property
    def _cells(self) -> Cells:
        return cut(self._rows, kmeans, capacity=self.cell_capacity)

    def name_of(self, id_: str) -> str:
        """Return the name of a pLLM by its id.

        Raises
        ------
        NotFoundError
            There is none.
        """
        with self._lock:
            return self.info.pllms[self._rows.row(id_)]

    @cached_property
    def _rows(self) -> Compact:
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "catalogue.xcat.safetensors"
            path.write_bytes(self.compact)
            return read_compact(path)

    @cached_property
    def _deltas(self) -> dict[str, bytes]:
        return {}

    def delta(self, since: str) -> bytes | None:
        """Return what changed since a version; None where that is too long ago."""
        if since not in self._deltas:
            versions = [str(change["version"]) for change in self.history]
            if since not in versions:
                return None
            later = self.history[versions.index(since) + 1 :]
            names = {name for change in later for name in change["changed"]}
            changed = [row for row, name in enumerate(self.info.pllms) if name in names]
            self._deltas[since] = self._export(changed, {row for change in later for row in change["removed"]})
        return self._deltas[since]

    def _export(self, changed: Sequence[int], removed: Iterable[str]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            full, out = Path(folder) / "full.safetensors", Path(folder) / "delta.safetensors"
            full.write_bytes(self.compact)
            export_delta(full, out, changed=changed, removed=removed)
            return out.read_bytes()


class Catalogues:
    """Builds catalogues when pLLMs changed, and serves them from memory.

    Parameters
    ----------
    store
        Where the entries and the catalogues' records are.
    bases, pllms
        What is registered.
    cell_capacity
        pLLMs a cell holds; None: as many as fit.
    """

    def __init__(self, store: Store, bases: Bases, pllms: Pllms, *, cell_capacity: int | None = None) -> None:
        self._store, self._bases, self._pllms, self._capacity = store, bases, pllms, cell_capacity
        self._built: dict[tuple[str, str], tuple[str, Built]] = {}
        self._fresh: dict[tuple[str, str], float] = {}
        self._entries: dict[str, Explanation] = {}
        self._lock = threading.Lock()

    def refresh(self, base: str, space: str) -> None:
        """Make the catalogue's record say what the pLLMs' records say; nothing is written where it does already.

        Whoever changed a pLLM calls this afterwards. The record is read before the pLLMs and written under a condition, so
        that of two callers at a time the one that saw less begins again.
        """

        def decide(record: Record | None) -> Draft:
            return self._next(base, space, record, dict(self._pllms.entries(base, space)))

        name = _name(base, space)
        found = self._record(name)
        if found is None or dict(found.artifacts) != dict(self._pllms.entries(base, space)):
            self._store.records.update(COLLECTION, name, decide)
        self._fresh.pop((base, space), None)

    def refresh_all(self) -> None:
        """Bring every catalogue up to date: what was left undone by a process that ended between a change and `refresh`."""
        for base, space in self.known():
            self.refresh(base, space)

    def known(self) -> list[tuple[str, str]]:
        """List base and style space of every catalogue."""
        return sorted((str(record.value["base"]), str(record.value["space"])) for record in self._store.records.list(COLLECTION))

    def spaces(self, base: str) -> list[str]:
        """List the style spaces in which a base has a catalogue."""
        return [str(record.value["space"]) for record in self._store.records.list(COLLECTION) if record.value["base"] == base]

    def held(self, base: str, space: str) -> Built | None:
        """Return a catalogue that needs no look at the store: its record was read less than `FRESH_S` ago."""
        if self._fresh.get((base, space), 0.0) < time.monotonic():
            return None
        found = self._built.get((base, space))
        if found:
            CACHE.record(cache="catalogue", outcome="hit")
        return found[1] if found else None

    def get(self, base: str, space: str) -> Built:
        """Return the catalogue of a base in a style space.

        What another process changed is seen after `FRESH_S`, what was changed through this object at once.

        Raises
        ------
        NotFoundError
            There is no such base, or none of its pLLMs is explained in that space.
        """
        key = (base, space)
        if fresh := self.held(base, space):
            return fresh
        # From here on, so that not everyone looks at the same time.
        self._fresh[key] = time.monotonic() + FRESH_S
        try:
            return self._look(key)
        except BaseException:
            self._fresh.pop(key, None)
            raise

    def _look(self, key: tuple[str, str]) -> Built:
        base, space = key
        record = self._record(_name(base, space))
        if record is None or not record.artifacts:
            self._bases.get(base)
            raise NotFoundError(f"No pLLM of '{base}' is explained yet. Register one and wait for its job.")
        held = self._built.get(key)
        is_held = held is not None and held[0] == record.etag
        CACHE.record(cache="catalogue", outcome="hit" if is_held else "miss")
        if held and is_held:
            return held[1]
        with self._lock:
            held = self._built.get(key)
            if held is None or held[0] != record.etag:
                held = record.etag, self._build(record)
                self._built[key] = held
        return held[1]

    def name_of(self, base: str, id_: str, *, first: str) -> str:
        """Return the name of a pLLM by its id, looked for in the style space ``first``, then in the others.

        Raises
        ------
        NotFoundError
            No catalogue of the base has it.
        """
        others = [space for space in self.spaces(base) if space != first]
        for space in [first, *others]:
            with suppress(NotFoundError):
                return self.get(base, space).name_of(id_)
        raise NotFoundError(f"No catalogue of '{base}' has the pLLM '{id_}'. Fetch the catalogue again and choose anew.")

    def _next(self, base: str, space: str, record: Record | None, entries: Mapping[str, str]) -> Draft:
        old = dict(record.artifacts) if record else {}
        before: Mapping[str, str] = record.value["rows"] if record else {}
        with self._lock:
            rows = {name: before[name] if old.get(name) == entry else _row(self._entry(entry)) for name, entry in entries.items()}
        change = {
            "version": sha256_hex(json.dumps([self._bases.get(base).digest, space, sorted(entries.items())]).encode()),
            "changed": sorted(name for name, entry in entries.items() if old.get(name) != entry),
            "removed": sorted(set(before.values()) - set(rows.values())),
        }
        history = [*(record.value["history"] if record else []), change][-N_VERSIONS:]
        while sum(len(each["removed"]) + len(each["changed"]) for each in history[1:]) > MOST_IDS:
            history = history[1:]
        return Draft({"base": base, "space": space, "rows": rows, "history": history}, entries)

    def _build(self, record: Record) -> Built:
        entries = {name: self._entry(digest) for name, digest in record.artifacts.items()}
        catalogue = Catalogue.of(entries.values())
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "catalogue.xcat.safetensors"
            catalogue.export_compact(path)
            data = path.read_bytes()
        for digest in set(self._entries) - set(record.artifacts.values()):
            if self._entries[digest].base_digest == catalogue.base_digest:
                del self._entries[digest]
        info = CatalogueInfo(
            base=str(record.value["base"]),
            base_digest=catalogue.base_digest,
            space=catalogue.space_digest,
            version=str(record.value["history"][-1]["version"]),
            n_pllms=len(entries),
            n_bytes=len(data),
            pllms=[entry.name for entry in catalogue.entries],
        )
        return Built(info, data, tuple(record.value["history"]), self._capacity)

    def _entry(self, digest: str) -> Explanation:
        """Read an entry; it is kept for the next build."""
        if digest not in self._entries:
            with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
                self._entries[digest] = Explanation.load(self._store.artifacts.download(digest, Path(folder) / "entry.json"))
        return self._entries[digest]

    def _record(self, name: str) -> Record | None:
        try:
            return self._store.records.get(COLLECTION, name)
        except NotFoundError:
            return None


def _name(base: str, space: str) -> str:
    return f"{base}.{space}"


def _row(entry: Explanation) -> str:
    """Return how the compact form names a pLLM: the first bytes of its adapter's digest."""
    return entry.adapter_digest[:16]
