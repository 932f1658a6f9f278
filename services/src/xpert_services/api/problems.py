"""Every error as an RFC 9457 problem, whoever found it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from xpert.core.errors import AccessError, InputError, NotFoundError, TooLargeError, UnavailableError, XpertError
from xpert.wire import problem_of
from xpert.wire.problems import MEDIA_TYPE

BY_STATUS: dict[int, type[XpertError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    413: TooLargeError,
    429: UnavailableError,
    503: UnavailableError,
}
DETAILS = {
    404: "There is no such address. The addresses are in /openapi.json.",
    405: "This address does not take that method. The header Allow says which it takes.",
}
MOST_SHOWN = 8

log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - carries an error to where the answer is written
    """A request that is refused with a status and headers of its own."""

    def __init__(self, error: XpertError, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(error))
        self.error, self.status, self.headers = error, status, dict(headers or {})


def problem_response(
    error: XpertError, *, request_id: str, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Write an error as the answer."""
    problem = problem_of(error, status=status, request_id=request_id)
    return Response(
        problem.model_dump_json(exclude_none=True), status_code=problem.status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def answer(error: Exception, *, request_id: str) -> Response:
    """Turn any exception into an answer; what was not foreseen tells nothing of the inside."""
    if isinstance(error, Refused):
        return problem_response(error.error, request_id=request_id, status=error.status, headers=error.headers)
    if isinstance(error, XpertError):
        return problem_response(error, request_id=request_id)
    if isinstance(error, RequestValidationError):
        return problem_response(InputError(_told(error)), request_id=request_id)
    if isinstance(error, HTTPException):
        kind = BY_STATUS.get(error.status_code, InputError if error.status_code < 500 else XpertError)
        detail = DETAILS.get(error.status_code) or str(error.detail)
        return problem_response(kind(detail), request_id=request_id, status=error.status_code, headers=error.headers)
    log.error("Unexpected in request %s", request_id, exc_info=error)
    return problem_response(XpertError("Unexpected: see the server's log under this request_id."), request_id=request_id)


def install(app: FastAPI, routes: Sequence[Route]) -> None:
    """Answer every exception that the routes raise with a problem."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            # The framework names the methods of the first route alone.
            allowed = {each for route in routes if route.path_regex.match(request.url.path) for each in route.methods or ()}
            error = HTTPException(405, headers={"allow": ", ".join(sorted(allowed))})
        return answer(error, request_id=request.state.request_id)

    for kind in (Refused, XpertError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def _told(error: RequestValidationError) -> str:
    problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
    return f"Cannot use this request: {'; '.join(problems[:MOST_SHOWN])}{more}."
