"""Bearer tokens: random secrets of which the store holds the hash alone."""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from xpert.core.errors import AccessError, NotFoundError
from xpert.core.files import sha256_hex
from xpert.wire import Page, Token, TokenDraft
from xpert.wire.bodies import Scope
from xpert_services.listing import read_page
from xpert_services.store import Draft, Record, Store
from xpert_services.store.keys import collection_prefix

COLLECTION = "tokens"
SCOPES: tuple[Scope, ...] = ("read", "publish", "admin")
# xpert_ID_SECRET: the prefix lets scanners of source code find a token that leaked.
TOKEN = re.compile(r"xpert_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
NOBODY = "0" * 64
ENVIRONMENT = "environment"
FRESH_S = 5.0
MOST_KEPT = 10_000


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    id, name
        Of the token.
    scope
        What it may do.
    """

    id: str
    name: str
    scope: Scope


@dataclass(frozen=True)
class _Known:
    token: Token
    hashed: str
    until: float


class Tokens:
    """The tokens of a store. Several may be live at a time, so that one is replaced without a moment without any.

    Parameters
    ----------
    store
        Where they are.
    fixed
        A secret of at least 32 characters that is an administrator's besides those in the store (given by environment).
    fresh_s
        How many seconds a token that was read is trusted: a removed one is refused everywhere after this time.

    Raises
    ------
    AccessError
        The fixed secret is too short.
    """

    def __init__(self, store: Store, *, fixed: str | None = None, fresh_s: float = FRESH_S) -> None:
        if fixed is not None and len(fixed) < 32:
            raise AccessError(f"The administrator's token has {len(fixed)} characters, expected at least 32 random ones.")
        self._store = store
        self._fixed = sha256_hex(fixed.encode()) if fixed else None
        self._fresh_s = fresh_s
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def make(self, draft: TokenDraft) -> Token:
        """Make a token; the answer is the only place where its secret stands."""
        name, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        created = datetime.fromtimestamp(self._store.objects.now(), UTC)
        token = Token(
            id=name,
            name=draft.name,
            scope=draft.scope,
            created=created,
            expires=created + timedelta(days=draft.days) if draft.days else None,
        )
        value = {**token.model_dump(mode="json", exclude={"secret"}), "sha256": sha256_hex(secret.encode())}
        self._store.records.create_first(COLLECTION, name, Draft(value))
        return token.model_copy(update={"secret": f"xpert_{name}_{secret}"})

    def page(self, *, after: str | None, limit: int) -> Page[Token]:
        """List the tokens, without secrets."""
        found, following = read_page(self._store, COLLECTION, after=after, limit=limit)
        return Page[Token](items=[Token.model_validate(record.value) for record in found], next=following)

    def get(self, name: str) -> Token:
        """Describe a token.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return Token.model_validate(self._store.records.get(COLLECTION, name).value)

    def remove(self, name: str) -> None:
        """Refuse a token from now on; other replicas follow within `FRESH_S`.

        Raises
        ------
        NotFoundError
            There is none.
        """
        self._store.records.remove(self._store.records.get(COLLECTION, name))
        with self._lock:
            self._known.pop(name, None)

    def any(self) -> bool:
        """Tell whether there is a token, or ever was one."""
        return self._fixed is not None or next(iter(self._store.objects.scan(collection_prefix(COLLECTION))), None) is not None

    def check(self, secret: str) -> Caller:
        """Return who a bearer token belongs to.

        Raises
        ------
        AccessError
            It is no token, unknown, removed or expired; the message does not tell which.
        """
        found = TOKEN.fullmatch(secret)
        return self._compare(secret, found, self._look_up(found[1]) if found else None)

    def check_held(self, secret: str) -> Caller | None:
        """Return who a bearer token belongs to, without a look at the store; None where that would be needed.

        Raises
        ------
        AccessError
            As for `check`.
        """
        found = TOKEN.fullmatch(secret)
        known = self._held(found[1]) if found else None
        return self._compare(secret, found, known) if known or not found else None

    def _compare(self, secret: str, found: re.Match[str] | None, known: _Known | None) -> Caller:
        given = sha256_hex(found[2].encode()) if found else sha256_hex(secret.encode())
        right = hmac.compare_digest(given, known.hashed if known else self._fixed or NOBODY)
        if right and known is None and found is None and self._fixed:
            return Caller(ENVIRONMENT, ENVIRONMENT, "admin")
        if not right or known is None or _is_over(known.token):
            raise AccessError("This needs a valid token. Send 'Authorization: Bearer TOKEN' with one that has not expired.")
        return Caller(known.token.id, known.token.name, known.token.scope)

    def _held(self, name: str) -> _Known | None:
        with self._lock:
            known = self._known.get(name)
        return known if known and known.until > time.monotonic() else None

    def _look_up(self, name: str) -> _Known | None:
        known = self._held(name)
        if known:
            return known
        try:
            record = self._store.records.get(COLLECTION, name)
        except NotFoundError:
            return None
        known = self._read(record)
        with self._lock:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[name] = known
        return known

    def _read(self, record: Record) -> _Known:
        token = Token.model_validate(record.value)
        return _Known(token, str(record.value["sha256"]), time.monotonic() + self._fresh_s)


def includes(scope: Scope, needed: Scope) -> bool:
    """Tell whether a token of ``scope`` may do what needs ``needed``."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


def _is_over(token: Token) -> bool:
    return token.expires is not None and token.expires <= datetime.now(UTC)
