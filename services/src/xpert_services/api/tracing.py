"""A span for every request.

What FastAPI and OpenTelemetry's instrumentation for ASGI offer notes the whole address, in which bases and pLLMs are named; this
notes the route's pattern, the method and the status.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpert_services import tracing

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Traced:
    """ASGI middleware around everything else.

    Parameters
    ----------
    app
        What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request(Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, noted)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "_OTHER"
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
                if status >= 500:
                    tracing.fail(span, str(status))
