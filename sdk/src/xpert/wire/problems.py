"""Errors over HTTP: RFC 9457 documents whose codes are those of `xpert.core.errors`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from xpert.core import errors
from xpert.core.errors import XpertError

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    "bad_input": 422,
    "bad_file": 422,
    "unsafe_file": 422,
    "mismatch": 422,
    "not_found": 404,
    "missing_extra": 501,
    "storage": 507,
    "training": 500,
    "conflict": 409,
    "access": 403,
    "too_large": 413,
    "unavailable": 503,
    "untrusted": 422,
    "error": 500,
}
"""Code -> HTTP status; ``access`` is 401 where no valid token came, ``unavailable`` 429 where a rate limit was passed."""


class Problem(BaseModel):
    """An RFC 9457 problem."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None


def _tree(kind: type[XpertError]) -> dict[str, type[XpertError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= _tree(child)
    return found


def problem_of(error: XpertError, *, status: int | None = None, request_id: str | None = None) -> Problem:
    """Write an exception as a problem."""
    return Problem(
        type=f"urn:xpert:{error.code}",
        title=error.code.replace("_", " "),
        status=status or STATUS[error.code],
        detail=str(error),
        code=error.code,
        request_id=request_id,
    )


def exception_of(problem: Problem) -> XpertError:
    """Return the exception that a problem was made of; a code that this version does not know becomes an `XpertError`."""
    return _tree(errors.XpertError).get(problem.code, XpertError)(problem.detail)
