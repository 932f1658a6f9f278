"""Tokens and the log of writes, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from xpert.wire import AuditEntry, Page, Token, TokenDraft
from xpert_services.api.parts import PROBLEMS, PageQuery, Parts, needs

router = APIRouter(prefix="/v1", tags=["access"], responses=PROBLEMS, dependencies=[needs("admin")])

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


@router.get("/tokens")
def list_tokens(services: Parts, query: Annotated[PageQuery, Query()]) -> Page[Token]:
    """List the tokens, without their secrets."""
    return services.tokens.page(after=query.after, limit=query.limit)


@router.post("/tokens", status_code=201)
def make_token(services: Parts, draft: TokenDraft) -> Token:
    """Make a token; its secret is shown in this answer only."""
    return services.tokens.make(draft)


@router.get("/tokens/{id}")
def get_token(services: Parts, id: Id) -> Token:  # noqa: A002
    """Describe a token, without its secret."""
    return services.tokens.get(id)


@router.delete("/tokens/{id}", status_code=204, response_class=Response)
def remove_token(services: Parts, id: Id) -> None:  # noqa: A002
    """Refuse a token from now on, on every replica within seconds."""
    services.tokens.remove(id)


@router.get("/audit")
def list_audit(services: Parts, query: Annotated[PageQuery, Query()]) -> Page[AuditEntry]:
    """List the writes, newest first."""
    return services.audit.page(after=query.after, limit=query.limit)
