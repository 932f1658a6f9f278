"""What an administrator asks for: tokens, and who wrote what."""

from __future__ import annotations

from xpert.client.exchange import Operation
from xpert.client.link import segment
from xpert.client.publishing import delete, draft, get, submit
from xpert.wire import AuditEntry, Page, Token, TokenDraft
from xpert.wire.bodies import Scope


def tokens(after: str | None, size: int) -> Operation[Page[Token]]:
    """List tokens, a page."""
    return get(Page[Token], "/v1/tokens", after=after, limit=size)


def add_token(name: str, scope: Scope, days: int | None) -> Operation[Token]:
    """Make a token. A repeated attempt, after an answer that was lost, makes another one: list them and revoke it."""
    return submit(Token, "/v1/tokens", draft(TokenDraft, name=name, scope=scope, days=days))


def revoke_token(id_: str) -> Operation[None]:
    """Refuse a token from now on."""
    return delete(f"/v1/tokens/{segment(id_)}")


def audit(after: str | None, size: int) -> Operation[Page[AuditEntry]]:
    """List the writes, newest first, a page."""
    return get(Page[AuditEntry], "/v1/audit", after=after, limit=size)
