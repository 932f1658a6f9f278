"""The log of writes: a record each, newest first."""

from __future__ import annotations

from xpert.wire import AuditEntry, Page
from xpert_services.listing import read_page
from xpert_services.store import Draft, Store

COLLECTION = "audit"
# Later writes get smaller numbers, so that the order of keys is newest first.
END_OF_TIME_US = 10**16


class Audit:
    """Who wrote what, and how it ended.

    Parameters
    ----------
    store
        Where it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, entry: AuditEntry) -> None:
        """Add an entry."""
        name = f"{END_OF_TIME_US - int(entry.at.timestamp() * 1e6):016d}-{entry.request_id}"
        self._store.records.create_first(COLLECTION, name, Draft(entry.model_dump(mode="json")))

    def page(self, *, after: str | None, limit: int) -> Page[AuditEntry]:
        """List the entries, newest first."""
        found, following = read_page(self._store, COLLECTION, after=after, limit=limit)
        return Page[AuditEntry](items=[AuditEntry.model_validate(record.value) for record in found], next=following)
