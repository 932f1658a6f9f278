"""A place for bytes whose calls are seen in traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from xpert_services import tracing
from xpert_services.store.keys import ROOT
from xpert_services.store.objects import Content, ObjectInfo, ObjectStore, Source


class TracedObjects:
    """Calls another place, and records each call as a part of the trace that is under way.

    Parameters
    ----------
    objects
        The place.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def __repr__(self) -> str:
        return repr(self._objects)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """See `ObjectStore.put`."""
        with _call("put", key):
            return self._objects.put(key, data, if_absent=if_absent, if_match=if_match)

    def put_file(self, key: str, source: Source) -> None:
        """See `ObjectStore.put_file`."""
        with _call("put_file", key):
            self._objects.put_file(key, source)

    def get(self, key: str) -> Content:
        """See `ObjectStore.get`."""
        with _call("get", key):
            return self._objects.get(key)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `ObjectStore.read`."""
        with _call("read", key):
            yield from self._objects.read(key, start=start, end=end)

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`."""
        with _call("stat", key):
            return self._objects.stat(key)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        with _call("scan", prefix):
            yield from self._objects.scan(prefix)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with _call("delete", key):
            self._objects.delete(key)

    def unfinished(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.unfinished`."""
        with _call("unfinished", prefix):
            yield from self._objects.unfinished(prefix)

    def discard(self, key: str) -> None:
        """See `ObjectStore.discard`."""
        with _call("discard", key):
            self._objects.discard(key)

    def now(self) -> float:
        """See `ObjectStore.now`."""
        with _call("now", ""):
            return self._objects.now()


def _call(what: str, key: str) -> AbstractContextManager[None]:
    return tracing.part(f"store {what}", **{"xpert.store.area": area(key)})


def area(key: str) -> str:
    """Return which part of a store a key is in, without the names in it: a pLLM's collection is called after its base."""
    kind, _, rest = key.removeprefix(ROOT).partition("/")
    return f"{kind}/{rest.split('/')[0].split('.')[0]}" if kind == "records" and rest else kind
