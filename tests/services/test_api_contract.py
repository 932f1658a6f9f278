"""The published document: it is what the app does, and nothing in it takes what is a user's own."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from api_cases import ADMIN, site_at
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from xpert_services.api import document

ROOT = Path(__file__).parents[2]
# What a person's own writing would be called, and what is computed from it.
PERSONAL = re.compile(
    r"text|prompt|message|sentence|document|content|embedding|vector|feature|statistic|coefficient|answer|sample|body|query|user",
    re.IGNORECASE,
)
FOLDER = tempfile.TemporaryDirectory()
SITE = site_at(Path(FOLDER.name) / "store").with_base()
# The rest of a file is bytes as the whole is.
schemathesis.serializer.alias("application/partial-upload", "application/octet-stream")
schema = schemathesis.openapi.from_dict(document())
schema.app = SITE.app


def test_the_published_document_is_the_apps() -> None:
    written = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert written == document(), "Write it anew with ./taskw openapi, and look whether v1 stays what it was."


def test_no_address_takes_a_text_an_embedding_or_coefficients_of_a_user() -> None:
    found = dict(inputs(document()))
    assert len(found) > 30
    for where, part in found.items():
        name = where.rsplit(" ", 1)[-1]
        assert not PERSONAL.search(name), where
        kinds = {each.get("type") for each in variants(part)}
        if "object" in kinds and "properties" not in part:
            assert part["additionalProperties"] is False, where
            assert all(is_narrow(each) for each in part["patternProperties"].values()), where
        if "array" in kinds:
            assert items_of(part) <= {"string", "object"}, f"{where} takes a list of numbers"
        if "string" in kinds:
            # Not free: a pattern, an enumeration, a date, or the bytes of a file that was announced by its digest.
            assert all(is_narrow(each) for each in variants(part) if each.get("type") == "string"), where


def test_requests_refuse_what_they_do_not_know() -> None:
    described = document()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for kind, part in operation.get("requestBody", {}).get("content", {}).items():
                if kind == "application/json":
                    assert resolve(described, part["schema"])["additionalProperties"] is False, (path, method)


def test_every_error_is_documented_as_a_problem() -> None:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            for status in ("4XX", "5XX"):
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"], (path, method)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_whatever_is_sent_the_answer_is_a_documented_one(case: schemathesis.Case) -> None:
    if case.path.endswith("/events"):
        return  # a stream that ends with its job: tests/services/test_api_jobs.py reads one
    # What a schema cannot say (a merge of a pLLM with itself, files that were not sent) is refused with 422.
    response = case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN}"}, excluded_checks=[positive_data_acceptance])
    if response.status_code >= 400 and case.method != "HEAD":
        problem = response.json()
        assert problem["status"] == response.status_code
        assert problem["code"] and problem["request_id"] == response.headers["x-request-id"][0]


def inputs(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that a caller can send: parameters and the fields of bodies, as far down as they go."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] != "header":
                    yield f"{method} {path} {parameter['name']}", resolve(described, parameter["schema"])
            for kind, part in operation.get("requestBody", {}).get("content", {}).items():
                if kind == "application/json":
                    yield from fields(described, f"{method} {path}", part["schema"])
                else:
                    assert (method in ("put", "patch"), path) == (True, "/v1/uploads/{digest}"), "only signed uploads take bytes"


def fields(described: dict[str, Any], where: str, part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in resolve(described, part).get("properties", {}).items():
        each = resolve(described, each)
        yield f"{where} {name}", each
        for inner in variants(each):
            yield from fields(described, f"{where} {name}", resolve(described, inner.get("items", inner)))


def resolve(described: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = described["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]
    return part


def variants(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in part.get("anyOf", [part]) if each.get("type") != "null"]


def items_of(part: dict[str, Any]) -> set[str]:
    return {each["items"].get("type", "object") for each in variants(part) if each.get("type") == "array"}


def is_narrow(part: dict[str, Any]) -> bool:
    return any(key in part for key in ("pattern", "enum", "const", "format"))
