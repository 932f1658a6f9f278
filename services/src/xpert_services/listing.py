"""Reading a collection of records page by page, in the order of their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xpert.core.errors import NotFoundError
from xpert_services.store import Record, Store
from xpert_services.store.keys import collection_prefix, decode, record_key


def records_after(store: Store, collection: str, after: str | None = None) -> Iterator[Record]:
    """Read the records of a collection that come after the one called ``after``; earlier ones are not read.

    Raises
    ------
    InputError
        ``after`` is no name of a record.
    """
    last = record_key(collection, after) if after else ""
    for info in store.objects.scan(collection_prefix(collection)):
        if info.key <= last:
            continue
        try:
            yield store.records.get(collection, name_of(info.key))
        except NotFoundError:
            continue  # removed: its small object stays


def name_of(key: str) -> str:
    """Return the name of the record at ``key``."""
    return decode(key.rsplit("/", 1)[1].removesuffix(".json"))


def read_page(
    store: Store,
    collection: str,
    *,
    after: str | None,
    limit: int,
    keep: Callable[[Record], bool] = lambda _: True,
) -> tuple[list[Record], str | None]:
    """Return at most ``limit`` records after ``after``, and the name to go on after (None: there are no more)."""
    found: list[Record] = []
    for record in records_after(store, collection, after):
        if not keep(record):
            continue
        if len(found) == limit:
            return found, found[-1].name
        found.append(record)
    return found, None
