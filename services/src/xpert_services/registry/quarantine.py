"""Quarantine: weights that were refused, with the reason; nobody downloads them."""

from __future__ import annotations

import contextlib

from xpert.core.errors import ConflictError, NotFoundError
from xpert_services.store import Draft, Store

COLLECTION = "quarantine"


class Quarantine:
    """What was refused, by the digest of the file.

    Parameters
    ----------
    store
        Where it is recorded.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, digest: str, reason: str) -> None:
        """Refuse a file from now on."""
        self._store.records.update(COLLECTION, digest, lambda _: Draft({"reason": reason}))

    def lift(self, digest: str) -> None:
        """Allow a file again: with other settings beside it, it was found to be good."""
        with contextlib.suppress(NotFoundError, ConflictError):
            self._store.records.remove(self._store.records.get(COLLECTION, digest))

    def reason(self, digest: str) -> str | None:
        """Return why a file is refused; None: it is not."""
        try:
            return str(self._store.records.get(COLLECTION, digest).value["reason"])
        except NotFoundError:
            return None
