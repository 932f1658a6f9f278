"""The app: routes, errors and the OpenAPI document."""

from __future__ import annotations

import tempfile
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route

from xpert_services import tracing
from xpert_services.api import problems
from xpert_services.api.gate import Gate, Limits
from xpert_services.api.page import page_routes
from xpert_services.api.parts import problem_schema
from xpert_services.api.routes import ROUTERS
from xpert_services.api.routes.catalogues import AtHand
from xpert_services.api.tracing import Traced
from xpert_services.services import Services
from xpert_services.store import open_store

ABOUT = """Explained personal LLMs: publishers register adapters, phones fetch a catalogue and choose by themselves.

No address takes a text, an embedding or coefficients of a user. Errors are RFC 9457 problems with stable codes. Fields are added,
never changed or removed, within v1; what goes is marked deprecated at least six months before."""


def create_app(services: Services, *, limits: Limits | None = None, public_url: str | None = None) -> FastAPI:
    """Make the app.

    Parameters
    ----------
    services
        What it serves.
    limits
        How much one may ask.
    public_url
        What addresses for uploads begin with where a proxy hides the server's own; by default the request's.
    """
    # The framework's own spans hold addresses, names and queries in them; `Traced` makes the ones that are wanted.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="XPerT", version="1", description=ABOUT, docs_url=None, redoc_url=None, telemetry=silent)
    app.state.services = services
    app.state.public_url = public_url
    for router in ROUTERS:
        app.include_router(router)
    page = page_routes()
    app.router.routes.extend(page)
    problems.install(app, [*page, *(route for router in ROUTERS for route in router.routes if isinstance(route, Route))])
    app.add_middleware(AtHand, services=services)
    app.add_middleware(Gate, services=services, limits_=limits or Limits())
    # Around the gate, so that its line in the log belongs to the trace.
    if tracing.is_on():
        app.add_middleware(Traced)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Services.over(open_store(folder))).openapi()


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        found["components"]["schemas"]["Problem"] = problem_schema()
        app.openapi_schema = found
    return app.openapi_schema
