"""Prometheus comes through to Ray's metrics, and to nothing beside them."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest

from xpert.core.errors import InputError
from xpert_services.serving.__main__ import parser, relay
from xpert_services.serving.relay import relayed


class Ray(BaseHTTPRequestHandler):
    """What answers at Ray's port."""

    def do_GET(self) -> None:
        body = b"xpert_requests_total 3\n" if self.path == "/metrics" else b"secret"
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_the_metrics_come_through_and_nothing_else_does() -> None:
    ray = ThreadingHTTPServer(("127.0.0.1", 0), Ray)
    thread = Thread(target=ray.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with relayed(ray.server_address[1], 0) as port:
            found = httpx2.get(f"http://127.0.0.1:{port}/metrics")
            assert (found.status_code, found.text) == (200, "xpert_requests_total 3\n")
            assert found.headers["content-type"] == "text/plain; version=0.0.4"
            assert httpx2.get(f"http://127.0.0.1:{port}/api/jobs").status_code == 404
            assert httpx2.post(f"http://127.0.0.1:{port}/metrics").status_code == 501
    finally:
        ray.shutdown()
        ray.server_close()
        thread.join()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/metrics")


def test_a_ray_that_is_not_there_yet_is_said() -> None:
    # Bound, so that nobody else is given it, but nobody listens.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with relayed(closed.getsockname()[1], 0) as port:
            found = httpx2.get(f"http://127.0.0.1:{port}/metrics")
    assert found.status_code == 503 and "cannot be read" in found.text


def test_nothing_is_opened_unless_it_is_asked_for() -> None:
    given = parser().parse_args(["--store", "s"])
    with relay(given) as port:
        assert port is None


def test_a_port_that_is_taken_is_said() -> None:
    with ThreadingHTTPServer(("", 0), Ray) as taken:
        given = parser().parse_args(["--store", "s", "--metrics-open", str(taken.server_address[1])])
        with pytest.raises(InputError, match="--metrics-open"), relay(given):
            pass
