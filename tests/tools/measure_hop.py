"""What a hop between deployments costs: ``python tests/tools/measure_hop.py`` prints the figure of docs/adr/0008-serving.md."""

from __future__ import annotations

import json
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from xpert_services.serving.cluster import Place, prepare, running

N_BYTES, SECONDS = 65_536, 15.0
WAYS = ("near", "far")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def application(serve: Any) -> Any:
    """Return an app that sends the same bytes from its own memory, and from that of another deployment."""
    from fastapi import FastAPI, Response

    class Behind:
        def __init__(self) -> None:
            self.data = bytes(N_BYTES)

        async def get(self) -> bytes:
            return self.data

    def build() -> FastAPI:
        app, data = FastAPI(), bytes(N_BYTES)

        @app.get("/near")
        async def near() -> Response:
            return Response(data)

        @app.get("/far")
        async def far() -> Response:
            return Response(await serve.get_deployment_handle("behind", app_name="hop").get.remote())

        return app

    actor = {"num_cpus": 0.2}
    behind = serve.deployment(Behind, name="behind", ray_actor_options=actor)
    return serve.deployment(serve.ingress(build)(), name="front", ray_actor_options=actor).bind(behind.bind())


def measure(client: httpx2.Client) -> dict[str, float]:
    """Ask in turn and return medians in milliseconds."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for way in WAYS:
            begun = time.perf_counter()
            client.get(f"/{way}").raise_for_status()
            seconds[way].append(time.perf_counter() - begun)
    medians = {way: 1000 * statistics.median(taken) for way, taken in seconds.items()}
    return {"n": len(seconds["near"]), **medians, "ratio": medians["far"] / medians["near"]}


def main() -> None:
    """Start a Ray, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(
            token_file=Path(folder) / "token",
            settings=Path(folder) / "metrics",
            dashboard_port=free_port(),
            metrics_port=free_port(),
            cpus=2,
        )
        prepare(place)
        with running(place):
            from ray import serve

            port = free_port()
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            serve.run(application(serve), name="hop", route_prefix="/")
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                for way in WAYS * 20:
                    client.get(f"/{way}").raise_for_status()
                sys.stdout.write(f"{json.dumps(measure(client))}\n")
            serve.shutdown()


if __name__ == "__main__":
    main()
