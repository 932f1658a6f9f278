"""What every request passes: an id, its token, limits of rate and size, the log of writes, and the last net."""

from __future__ import annotations

import logging
import math
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import limits
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpert.core.errors import AccessError, UnavailableError
from xpert.wire import AuditEntry
from xpert_services.access import Caller
from xpert_services.api.problems import Refused, answer
from xpert_services.api.rates import Rates
from xpert_services.metering import REQUEST_SECONDS
from xpert_services.services import Services

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
READING = ("GET", "HEAD", "OPTIONS")
SIGNED = re.compile(r"/v1/(uploads|downloads)/.*")
SECURITY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}

log = logging.getLogger("xpert_services.requests")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one may ask of a site.

    Attributes
    ----------
    requests, anonymous
        Requests of one token, and requests without a valid token of one address, such as "1200/minute".
    replicas
        How many server processes share these at most. Each counts by itself and takes its part of them, so that all together
        never take more; where fewer run, or one caller always meets the same, that caller gets less.
    body_bytes
        Largest JSON body.
    """

    requests: str = "1200/minute"
    anonymous: str = "60/minute"
    replicas: int = 1
    body_bytes: int = 2**20

    def part(self, of: str) -> limits.RateLimitItem:
        """Return what one server process takes of a limit; at least one request."""
        whole = limits.parse(of)
        return type(whole)(max(1, whole.amount // self.replicas), whole.multiples)


class Gate:
    """ASGI middleware in front of all routes.

    Parameters
    ----------
    app
        What is behind it.
    services
        For tokens and the log of writes.
    limits_
        How much one may ask.
    """

    def __init__(self, app: ASGIApp, *, services: Services, limits_: Limits) -> None:
        self._app, self._services, self._limits = app, services, limits_
        self._rate = Rates()
        self._requests, self._anonymous = limits_.part(limits_.requests), limits_.part(limits_.anonymous)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, self._services, send)
        try:
            scope["state"]["caller"] = await self._admit(scope)
            await self._app(scope, self._limited(scope, receive), visit.send)
        except Exception as error:
            if visit.status:
                raise  # the answer has begun: all that is left is to cut it
            await answer(error, request_id=visit.request_id)(scope, receive, visit.send)
        finally:
            visit.log()

    async def _admit(self, scope: Scope) -> Caller | None:
        """Return who asks; None where that needs not be known.

        Raises
        ------
        Refused
            A token is needed, or too much was asked.
        """
        path = scope["path"]
        client = scope["client"][0] if scope.get("client") else "unknown"
        if not path.startswith("/v1/") or SIGNED.fullmatch(path):
            return None
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise AccessError("This needs a token. Send the header 'Authorization: Bearer TOKEN'.")
            # A thread costs more than the comparison, so only the look at the store gets one.
            tokens, secret = self._services.tokens, secret.strip()
            caller = tokens.check_held(secret)
            if caller is None:
                caller = await run_in_threadpool(tokens.check, secret)
        except AccessError as error:
            # Counted after the look at the token: who shares an address with a stranger gets in all the same.
            if not self._rate.hit(self._anonymous, client):
                raise self._too_often(self._anonymous, client) from error
            raise Refused(error, 401, {"www-authenticate": "Bearer"}) from error
        if not self._rate.hit(self._requests, caller.id):
            raise self._too_often(self._requests, caller.id)
        return caller

    def _too_often(self, limit: limits.RateLimitItem, who: str) -> Refused:
        wait = max(1, math.ceil(self._rate.wait(limit, who)))
        return Refused(UnavailableError(f"More than {limit} requests. Wait {wait} s."), 429, {"retry-after": str(wait)})

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Cut a body that is larger than allowed, also where its length was not announced.

        Raises
        ------
        HTTPException
            The announced length is too large.
        """
        # Uploads are bounded by the size that their address was signed for.
        if SIGNED.fullmatch(scope["path"]):
            return receive
        most, left = self._limits.body_bytes, self._limits.body_bytes
        # The kind of exception that passes through where the framework reads the body.
        error = HTTPException(413, f"The body is larger than the {most} bytes that are taken here.")
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit() or int(announced) > most:
            raise error

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise error
            return message

        return limited


class _Visit:
    """One request on its way."""

    def __init__(self, scope: Scope, services: Services, send: Send) -> None:
        asked = Headers(scope=scope).get("x-request-id", "")
        self.request_id = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        self.status = 0
        self._scope, self._services, self._send = scope, services, send
        self._begun = time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.request_id

    @property
    def caller(self) -> Caller | None:
        """Who asks, as far as that is known."""
        found: Caller | None = self._scope["state"].get("caller")
        return found

    async def send(self, message: Message) -> None:
        """Add what every answer carries, and log a write before its caller hears of it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            caller = self.caller
            if caller and self._scope["method"] not in READING:
                await self._audit(caller)
        await self._send(message)

    async def _audit(self, caller: Caller) -> None:
        entry = AuditEntry(
            at=datetime.now(UTC),
            token=f"{caller.name} ({caller.id})",
            method=self._scope["method"],
            path=self._scope["path"],
            status=self.status,
            request_id=self.request_id,
        )
        try:
            await run_in_threadpool(self._services.audit.write, entry)
        except Exception as error:
            # The write has happened: telling its caller otherwise would be wrong, so the process's log has to do.
            log.error("Not in the log of writes: %s: %s", entry.model_dump_json(), error)

    def log(self) -> None:
        """Note the request in the process's log."""
        told = {
            "request_id": self.request_id,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self.status,
            "token": caller.id if (caller := self.caller) else None,
            "seconds": round(time.monotonic() - self._begun, 4),
        }
        log.info("%s %s %s", told["method"], told["path"], told["status"], extra={"told": told})
        # The route's pattern, not the path: one series a route, not one a pLLM.
        route = getattr(self._scope.get("route"), "path", "none")
        REQUEST_SECONDS.record(told["seconds"], method=told["method"], route=route, status=str(self.status))
