"""What receives traces in the tests: OTLP over HTTP as its specification says, decoded with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags


@dataclass(frozen=True)
class Seen:
    """A span as it arrived."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    text: str = field(repr=False)


class Receiver:
    """Keeps the spans that were sent to it."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.port = 0

    @property
    def environment(self) -> dict[str, str]:
        """What lets a server send its traces here, without waiting long."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "200"}

    def of(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace == trace_id]

    def take(self, data: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    links = tuple(link.span_id.hex() for link in span.links)
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    self.spans.append(Seen(service, span.name, *ids, links, _plain(span.attributes), str(span)))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive traces on a free port of the loopback address."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            known = (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            if known:
                receiver.take(data)
            self.send_response(200 if known else 400)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def under(trace_id: str) -> Iterator[None]:
    """Let a trace of the caller's be under way."""
    context = SpanContext(int(trace_id, 16), 0x1234, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(context)):
        yield


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
