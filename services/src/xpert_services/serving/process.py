"""What every replica's process begins with."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from ray.serve._private import replica
from ray.util import get_node_ip_address
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpert_services import metering, tracing
from xpert_services.api import create_app
from xpert_services.logs import configure
from xpert_services.sampling import Sampler
from xpert_services.serving.args import SiteArgs
from xpert_services.serving.cluster import LOOPBACK
from xpert_services.serving.meter import RayMeter

ID = "x-request-id"


def prepare(name: str) -> None:
    """Log as JSON, count to Ray, send traces if they are asked for, and listen where the node listens."""
    if get_node_ip_address() == LOOPBACK:
        _listen_on_loopback()
    configure("xpert_services", deployment=name)
    metering.send_to(RayMeter())
    tracing.start(f"xpert-{name}")


def build_gateway(args: SiteArgs) -> FastAPI:
    """Open the store and make the app; runs on each replica."""
    prepare("gateway")
    services = args.services()
    services.spaces.default()
    threading.Thread(target=Sampler(services).run, name="sampler", daemon=True).start()
    app = create_app(services, limits=args.limits, public_url=args.public_url)
    app.add_middleware(IdOnce)
    return app


def _listen_on_loopback() -> None:
    """Keep a replica's server for calls between deployments on the loopback address: it listens on all, whatever the node's is.

    There is no option for it (Ray 2.60); a test looks at the ports.
    """
    inside: Any = replica
    listen = inside.add_port_to_grpc_server
    inside.add_port_to_grpc_server = lambda server, _: listen(server, f"{LOOPBACK}:0")


class IdOnce:
    """Leaves the header with the request's id to Serve, which adds it as well.

    Parameters
    ----------
    app
        What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def without(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get(ID) == Headers(scope=scope).get(ID):
                    del headers[ID]
            await send(message)

        await self._app(scope, receive, without if scope["type"] == "http" else send)
