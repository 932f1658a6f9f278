"""The fake server on a real socket, from the standard library alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from xpert.client.fake.faults import Reply, Seen


@contextmanager
def listen(answer: Callable[[Seen], Reply]) -> Iterator[str]:
    """Listen on a free port of 127.0.0.1 while the block runs; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _any(self) -> None:
            with suppress(ConnectionError):
                _exchange(self, answer)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _exchange(handler: BaseHTTPRequestHandler, answer: Callable[[Seen], Reply]) -> None:
    where = urlsplit(handler.path)
    reply = answer(
        Seen(
            method=handler.command,
            path=where.path,
            params=tuple(parse_qsl(where.query, keep_blank_values=True)),
            headers={key.lower(): value for key, value in handler.headers.items()},
            body=handler.rfile.read(int(handler.headers.get("content-length") or 0)),
        )
    )
    handler.close_connection |= reply.cut_after is not None
    if reply.cut_after == -1:
        return
    handler.send_response(reply.status)
    for key, value in reply.headers.items():
        handler.send_header(key, value)
    if reply.status not in {204, 304}:
        handler.send_header("content-length", str(len(reply.body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(reply.body[: reply.cut_after])
