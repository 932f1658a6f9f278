"""The explorer page beside the API: with which headers it is served, and what is said where it was not built."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_cases import site_at
from starlette.applications import Starlette
from starlette.testclient import TestClient

from xpert_services.api.page import page_routes

POLICY = "default-src 'none'; script-src 'self'"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(f'<meta http-equiv="Content-Security-Policy"\n content="{POLICY}" />')
    (folder / "icon.svg").write_text("<svg/>")
    for suffix in ("js", "wasm", "onnx", "css", "txt"):
        (folder / "assets" / f"a-1b2c.{suffix}").write_text("")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "assets" / "link.js").symlink_to(tmp_path / "secret.js")
    return folder


def test_the_page_and_its_assets(built: Path) -> None:
    client = TestClient(Starlette(routes=page_routes(built)))
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == client.get("/icon.svg").headers["cache-control"] == "no-cache"
    assets = {suffix: client.get(f"/assets/a-1b2c.{suffix}").headers for suffix in ("js", "wasm", "onnx", "css", "txt")}
    types = {suffix: headers["content-type"].split(";")[0] for suffix, headers in assets.items()}
    assert types["js"] == "text/javascript"
    assert types["wasm"] == "application/wasm"
    assert types["onnx"] == "application/octet-stream"
    assert {headers["cache-control"] for headers in assets.values()} == {"public, max-age=31536000, immutable"}
    policies = {headers["content-security-policy"] for headers in (page.headers, *assets.values())}
    assert policies == {f"{POLICY}; frame-ancestors 'none'"}


@pytest.mark.parametrize("name", ["nothing.js", "..%2Findex.html", "%2E%2E", "..%2F..%2Fsecret.js", "link.js"])
def test_nothing_else_is_served(built: Path, name: str) -> None:
    assert TestClient(Starlette(routes=page_routes(built))).get(f"/assets/{name}").status_code == 404


def test_it_says_how_to_build_it(tmp_path: Path) -> None:
    answer = TestClient(Starlette(routes=page_routes(tmp_path / "web"))).get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert "./taskw web" in answer.text


def test_it_needs_no_token_and_hides_no_problem(tmp_path: Path) -> None:
    client = site_at(tmp_path / "store").client(None)
    assert client.get("/").status_code == 200
    refused = client.post("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert client.get("/nothing").headers["content-type"] == "application/problem+json"
    assert client.get("/v1/pllms").status_code == 401
