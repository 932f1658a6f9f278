"""Signed addresses: whoever has one may do the one thing it says, until it runs out."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping

from xpert.core.errors import AccessError, ConflictError, NotFoundError
from xpert_services.store import Draft, Store

COLLECTION, NAME = "settings", "signing"
FIELDS = ("expires", "signature")


class Signer:
    """Signs what an address allows, with a key that all replicas share through the store.

    Parameters
    ----------
    store
        Where the key is; it is made with the first use.
    lifetime_s
        How long an address can be used.
    """

    def __init__(self, store: Store, *, lifetime_s: int = 900) -> None:
        self._store = store
        self._key = b""
        self.lifetime_s = lifetime_s

    def sign(self, action: str, allowed: Mapping[str, str]) -> dict[str, str]:
        """Return the query of an address: what is allowed, until when, and the signature of both."""
        query = {**allowed, "expires": str(int(time.time()) + self.lifetime_s)}
        return {**query, "signature": self._signature(action, query)}

    def check(self, action: str, query: Mapping[str, str]) -> None:
        """Refuse what was not signed, or no longer holds.

        Raises
        ------
        AccessError
            The signature does not fit, or the time is over.
        """
        signed = {name: value for name, value in query.items() if name != "signature"}
        fits = hmac.compare_digest(self._signature(action, signed).encode(), query.get("signature", "").encode())
        if not fits or not signed.get("expires", "").isdigit() or int(signed["expires"]) < time.time():
            raise AccessError("This address was changed or has run out. Ask for a new one.")

    def renew_key(self) -> None:
        """Make another key: addresses signed before stop working. Servers that run take it with their next start."""
        key = {"key": secrets.token_hex(32)}
        self._store.records.update(COLLECTION, NAME, lambda _: Draft(key))
        self._key = b""

    def _signature(self, action: str, query: Mapping[str, str]) -> str:
        # Lengths in front: no two different sets of values are written the same.
        parts = [action, *(part for name in sorted(query) for part in (name, query[name]))]
        message = b"".join(f"{len(part)}:{part}".encode("utf-8", "surrogatepass") for part in parts)
        return hmac.new(self._shared_key(), message, "sha256").hexdigest()

    def _shared_key(self) -> bytes:
        if not self._key:
            try:
                record = self._store.records.get(COLLECTION, NAME)
            except NotFoundError:
                try:
                    record = self._store.records.create(COLLECTION, NAME, Draft({"key": secrets.token_hex(32)}))
                except ConflictError:
                    record = self._store.records.get(COLLECTION, NAME)
            self._key = bytes.fromhex(str(record.value["key"]))
        return self._key
