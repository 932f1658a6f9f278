"""Traces: off unless asked for; one from a caller through the request to the job that it asked for, without names."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httpx2 import URL
from opentelemetry import baggage, context
from server_cases import serving
from tracing_cases import Receiver, Seen, receiving, under

import xpert_starter
from xpert.client import Client
from xpert.client.exchange import Request
from xpert.client.link import Link
from xpert.core.errors import InputError
from xpert_services import tracing
from xpert_services.store.traced import area

TRACES = {name: f"{number:032x}" for number, name in enumerate(("concise", "poetic", "sarcastic"), start=0xABC)}


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://here"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://here", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on(environment: dict[str, str], asked: bool) -> None:
    assert tracing.is_asked(environment) == asked


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_cannot_be_sent_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="http/protobuf"):
        tracing.is_asked(environment)


def test_a_context_is_carried() -> None:
    assert tracing.carried() == tracing.current_id() == tracing.id_of("") == tracing.id_of("no context") == ""
    with under(TRACES["poetic"]):
        kept = tracing.carried()
        assert tracing.current_id() == TRACES["poetic"]
    assert tracing.id_of(kept) == TRACES["poetic"]


def test_the_area_of_a_key_has_no_name_in_it() -> None:
    assert area("v1/records/pllms.my-base/my-pllm.json") == "records/pllms"
    assert area("v1/records/jobs/abc.json") == area("v1/records/jobs/") == "records/jobs"
    assert area("v1/blobs/ab/abc.def") == "blobs"
    assert area("layout.json") == "layout.json"
    assert area("") == ""


def test_a_client_tells_the_trace_to_its_server_alone() -> None:
    link, request = Link("https://here.test", "secret"), Request(method="GET", target="/v1/jobs")

    def told(address: str) -> str | None:
        return link.headers(request, URL(address)).get("traceparent")

    with baggage_of(), under(TRACES["poetic"]):
        assert told("https://here.test/v1/jobs") == tracing.carried() != ""
        assert told("https://elsewhere.test/v1/jobs") is told("https://here.test/v1/uploads/x?signature=y") is None
        assert "baggage" not in link.headers(request, URL("https://here.test/v1/jobs"))
    assert told("https://here.test/v1/jobs") is None


@contextmanager
def baggage_of() -> Iterator[None]:
    token = context.attach(baggage.set_baggage("user", "someone"))
    try:
        yield
    finally:
        context.detach(token)


def find(receiver: Receiver, name: str, span: str, n: int = 1) -> list[Seen]:
    found = [each for each in receiver.of(TRACES[name]) if each.name == span]
    assert len(found) == n, (name, span, [each.name for each in receiver.of(TRACES[name])])
    return found


def wait_until_taken(client: Client, job: str) -> None:
    pause = threading.Event()
    while client.job(job).state == "queued":
        pause.wait(0.05)


@pytest.mark.slow
def test_one_trace_from_the_caller_to_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        for name, value in receiver.environment.items():
            monkeypatch.setenv(name, value)
        with serving(tmp_path) as (url, said), Client(url, token=said[0].rsplit(" ", 1)[1], cache=tmp_path / "cache") as client:
            client.add_base("starter", "starter:base")
            jobs = {}
            # While the first is worked on, the others come together.
            for name, trace in TRACES.items():
                with under(trace):
                    jobs[name] = client.push(xpert_starter.path_of(name), "starter", name).job or ""
                wait_until_taken(client, jobs["concise"])
            for job in jobs.values():
                client.wait(job)
    for name in TRACES:
        (asked,), (done,) = find(receiver, name, "POST /v1/pllms"), find(receiver, name, "job explain")
        assert asked.parent == f"{0x1234:016x}"
        assert asked.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/pllms",
            "http.response.status_code": 201,
        }
        assert done.parent == asked.id
        assert (done.attributes["xpert.job"], done.attributes["xpert.job.state"]) == (jobs[name], "succeeded")
        assert any(each.parent == asked.id and each.name == "store put" for each in receiver.of(TRACES[name]))
    (first,), (second,), (third,) = (find(receiver, name, "job explain") for name in TRACES)
    for name, job in (("concise", first), ("poetic", second)):
        (probing,), (decomposing,) = find(receiver, name, "probing"), find(receiver, name, "decomposition")
        assert probing.parent == decomposing.parent == job.id
        areas = {each.attributes.get("xpert.store.area") for each in receiver.of(TRACES[name]) if each.parent == job.id}
        assert areas >= {"artifacts", "blobs", "records/pllms", "records/answers", "records/catalogues"}
    assert (second.links, third.links) == ((), (second.id,))
    find(receiver, "sarcastic", "probing", 0)
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    told = {line["job"]: line["trace_id"] for line in logged if "job" in line}
    assert told == {jobs[name]: trace for name, trace in TRACES.items()}
    assert {line["trace_id"] for line in logged if line.get("path") == "/v1/pllms"} == set(TRACES.values())
    # Workers that look for something to do, twice a second, leave nothing.
    assert {each.name for each in receiver.spans if not each.parent.strip("0")} <= {
        each.name for each in receiver.spans if "http.route" in each.attributes
    }
    for each in receiver.spans:
        assert not [word for word in (*TRACES, "starter", str(tmp_path), said[0].rsplit(" ", 1)[1]) if word in each.text], each
