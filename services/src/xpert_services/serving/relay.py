"""Ray's metrics for a Prometheus on another machine.

Ray of one node serves them where it listens itself, on the loopback address, and so it stays: everything else of Ray's is there
as well. In a pod, Prometheus comes from outside: it is let through to the metrics and to nothing beside them.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from xpert_services.serving.cluster import LOOPBACK

PATIENCE_S = 10.0


@contextmanager
def relayed(source: int, port: int) -> Iterator[int]:
    """Answer ``GET /metrics`` on all addresses with what a port of the loopback address answers, for the block.

    Parameters
    ----------
    source
        The port that Ray serves its metrics at.
    port
        Where they are to be had; 0: at any free port.

    Yields
    ------
    int
        The port.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(404, b"Only /metrics is here.\n")
                return
            try:
                with closing(http.client.HTTPConnection(LOOPBACK, source, timeout=PATIENCE_S)) as asked:
                    asked.request("GET", "/metrics")
                    found = asked.getresponse()
                    answer = found.status, found.read(), found.getheader("content-type") or "text/plain"
            except (OSError, http.client.HTTPException) as error:
                answer = 503, f"Ray's metrics cannot be read: {error}\n".encode(), "text/plain"
            # Not above: who went away meanwhile is no fault of Ray's.
            self._answer(*answer)

        def _answer(self, status: int, body: bytes, content: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("content-type", content)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: Prometheus asks every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    thread = threading.Thread(target=server.serve_forever, name="metrics-relay", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
