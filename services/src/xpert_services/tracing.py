"""Traces by OpenTelemetry: off unless its standard variables ask for them (docs/adr/0008-serving.md).

Requests and jobs begin or join a trace. A part of the work is recorded only inside one: workers look into the store twice a
second, and that shall leave nothing. No span names a person, a pLLM, a base or a path, and none holds an error's words, which do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from xpert.core.errors import InputError, MissingExtraError

NAME = "xpert_services"
PARENT = "traceparent"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
END_MS = 5000

# The trace's context alone: baggage could hold anything.
_propagator = TraceContextTextMapPropagator()


def is_asked(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether OpenTelemetry's variables ask for traces.

    Raises
    ------
    InputError
        They ask for an exporter that is not here.
    """
    wanted = environment.get(EXPORTER, "")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or wanted == "none":
        return False
    if not wanted and not any(environment.get(name) for name in ENDPOINTS):
        return False
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), HTTP)
    if wanted not in ("", "otlp") or protocol != HTTP:
        raise InputError(
            f"Traces are sent by OTLP over HTTP, {EXPORTER} asks for '{wanted or 'otlp'}' by '{protocol}'. "
            f"Set {EXPORTER}=otlp and {PROTOCOLS[1]}={HTTP}, or {EXPORTER}=none."
        )
    return True


def start(service: str) -> None:
    """Send this process's spans from now on, where the variables ask for it; the process is called ``service`` there.

    Raises
    ------
    InputError
        See `is_asked`.
    MissingExtraError
        The extra ``tracing`` is not installed.
    """
    if not is_asked():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(
            "OpenTelemetry's variables ask for traces, and what sends them is not installed. Install xpert-services[tracing]."
        ) from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def is_on() -> bool:
    """Tell whether spans of this process are kept."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def flush() -> None:
    """Send what waits to be sent."""
    send = getattr(trace.get_tracer_provider(), "force_flush", None)
    if send:
        send(END_MS)


def carried() -> str:
    """Return the current trace's context, to be kept with what is done later; empty where there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(PARENT, "")


def id_of(parent: str) -> str:
    """Return the trace's id in what `carried` returned; empty where there is none."""
    found = trace.get_current_span(_propagator.extract({PARENT: parent})).get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def current_id() -> str:
    """Return the current trace's id; empty where there is none."""
    return id_of(carried())


@contextmanager
def request(headers: Mapping[str, str]) -> Iterator[Span]:
    """Record a request, in the caller's trace if it names one."""
    with trace.get_tracer(NAME).start_as_current_span(
        "request",
        _propagator.extract(headers),
        kind=SpanKind.SERVER,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


@contextmanager
def together(name: str, parents: Sequence[str]) -> Iterator[list[Span]]:
    """Record work that is done for several requests at once: a span in the trace of each.

    What happens meanwhile belongs to the first; the others link to it.
    """
    tracer = trace.get_tracer(NAME)
    with ExitStack() as stack:
        spans: list[Span] = []
        for parent in parents:
            links = [Link(spans[0].get_span_context())] if spans else []
            span = tracer.start_span(name, _propagator.extract({PARENT: parent}), kind=SpanKind.CONSUMER, links=links)
            stack.callback(span.end)
            spans.append(span)
        stack.enter_context(trace.use_span(spans[0], record_exception=False, set_status_on_exception=False))
        yield spans


@contextmanager
def part(name: str, **attributes: str | int) -> Iterator[None]:
    """Record a part of the work, if a trace is under way.

    It is not made the current span, so that a generator may hold it open between its values.
    """
    if not trace.get_current_span().is_recording():
        yield
        return
    span = trace.get_tracer(NAME).start_span(name, attributes=attributes)
    try:
        yield
    except Exception as error:
        fail(span, type(error).__name__)
        raise
    finally:
        span.end()


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed, by the kind of error alone."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
