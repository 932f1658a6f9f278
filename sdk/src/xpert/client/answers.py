"""From answers to bodies and errors, and when another attempt is worth it."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from xpert.client.exchange import Answer, AttemptError
from xpert.core.errors import (
    AccessError,
    ConflictError,
    FileFormatError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    XpertError,
    check_ranges,
)
from xpert.wire import Problem, exception_of

BUSY = frozenset({429, 502, 503, 504})
TRANSIENT = frozenset({"unavailable", "storage"})
"""Codes of problems that pass, as the server's jobs see it too."""

BY_STATUS: dict[int, type[XpertError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
}
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How patient a client is.

    Attributes
    ----------
    attempts
        At most so many of one request; a download counts anew whenever bytes came.
    total
        Seconds after which no other attempt begins.
    first, longest, jitter
        Waits in seconds: first one, doubled up to the longest, plus up to ``jitter`` by chance.
    patience
        A server that says ``Retry-After`` more seconds than this is not waited for.
    """

    attempts: int = 6
    total: float = 90
    first: float = 0.2
    longest: float = 10
    jitter: float = 1
    patience: float = 60

    def __post_init__(self) -> None:
        check_ranges(
            {
                "attempts": (self.attempts, 1),
                "total": (self.total, 0),
                "first": (self.first, 0),
                "longest": (self.longest, 0),
                "jitter": (self.jitter, 0),
                "patience": (self.patience, 0),
            }
        )

    def wait(self, error: Exception) -> bool | float:
        """Say whether another attempt is worth it, or in how many seconds (the hook of `stamina`)."""
        if isinstance(error, AttemptError):
            if isinstance(error.wait, bool):
                return error.wait
            # Jitter on top: all who were told the same second would come back in the same second.
            return error.wait + random.uniform(0, self.jitter) if error.wait <= self.patience else False
        hopeless = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
        return isinstance(error, httpx2.TransportError) and not isinstance(error, hopeless) and not _untrusted(error)


def check(answer: Answer) -> AttemptError:
    """Turn an error's answer into the failure it is: the exception that the server had, by its problem document."""
    problem = _problem(answer)
    status = answer.status
    # A signed address to read from is asked for anew with every attempt.
    ran_out = answer.foreign and status == 403 and answer.method == "GET"
    if problem:
        error = exception_of(problem)
        if problem.request_id:
            error.add_note(f"Request {problem.request_id} in the server's log.")
        transient = problem.code in TRANSIENT or status in BUSY or ran_out
    else:
        error = _plain(answer)
        # No problem document: something before the server said it, such as a proxy whose replica just died.
        transient = status >= 500 or status in BUSY or ran_out
    after = _retry_after(answer.headers.get("retry-after", ""))
    return AttemptError(error, wait=after if transient and after is not None else transient)


def unreachable(error: Exception, *, server: str, attempts: int) -> XpertError:
    """Say that no answer came, with what was tried and what to do."""
    why = str(error) or type(error).__name__
    tried = "once" if attempts == 1 else f"{attempts} times"
    if _untrusted(error):
        return UnavailableError(
            f"Cannot reach {server}: its certificate is not trusted ({why}). If it is your own, name its authority's file in "
            "SSL_CERT_FILE."
        )
    return UnavailableError(
        f"Cannot reach {server}, tried {tried}: {why}. Check the address and the network; what was fetched before is there "
        "offline (offline=True, --offline)."
    )


def parse(model: type[Model], answer: Answer) -> Model:
    """Read the body of an answer.

    Raises
    ------
    FileFormatError
        It is not what REST v1 says.
    """
    return parsed(lambda: model.model_validate_json(answer.body), answer.url)


def parsed(read: Callable[[], Model], source: str) -> Model:
    """Return what ``read`` validates.

    Raises
    ------
    FileFormatError
        It is not what REST v1 says; every problem is listed.
    """
    try:
        return read()
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()[:5])
        raise FileFormatError(
            f"The answer of {source} is not what REST v1 says: {found}. Is this the address of an XPerT server?"
        ) from error


def _problem(answer: Answer) -> Problem | None:
    if "json" not in answer.headers.get("content-type", ""):
        return None
    try:
        return Problem.model_validate_json(answer.body)
    except ValidationError:
        return None


def _plain(answer: Answer) -> XpertError:
    status, place = answer.status, answer.url.split("?")[0]
    said = f"{answer.method} {place} was answered with status {status}"
    if status in BUSY or status >= 500:
        return UnavailableError(f"{said}, by something in between. Try again later.")
    kind = BY_STATUS.get(status, XpertError)
    hint = "Check your token." if kind is AccessError else "Check that this is the address of an XPerT server."
    return kind(f"{said}. {hint}")


def _retry_after(value: str) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
