"""The API: who gets in, what is refused and how it is told, files in and out, pages, catalogues, jobs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from api_cases import ADMIN, BASE, Site, draft_of, explain_by_chance, publish, send, site_at
from starlette.testclient import TestClient
from store_cases import make_file

import xpert_starter
from xpert.core.catalogue import load_compact
from xpert.core.delta import apply_delta
from xpert.core.files import write_json
from xpert.core.space import StyleSpace
from xpert.wire import Problem, exception_of
from xpert_services.api import Limits
from xpert_services.services import Settings
from xpert_services.store import Store
from xpert_services.store.keys import LAYOUT

SPACE = StyleSpace.default().digest


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path / "store").with_base()


@pytest.fixture
def client(site: Site) -> TestClient:
    return site.client()


def problem(answer: object, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    found = Problem.model_validate(answer.json())  # type: ignore[attr-defined]
    assert (found.status, found.code, found.type) == (status, code, f"urn:xpert:{code}")
    assert found.request_id == answer.headers["x-request-id"]  # type: ignore[attr-defined]
    assert exception_of(found).code == code
    return found.detail


def test_importing_the_api_loads_no_model() -> None:
    code = "import sys, xpert_services.api; print(sorted({'torch', 'transformers', 'peft', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_alive_ready_version(site: Site, client: TestClient) -> None:
    open_ = site.client(None)
    assert [open_.get(path).status_code for path in ("/healthz", "/readyz", "/version", "/openapi.json")] == [204, 204, 200, 200]
    site.store.objects.delete(LAYOUT)
    assert "store" in problem(open_.get("/readyz"), 503, "unavailable")
    assert open_.get("/healthz").status_code == 204


def test_errors_are_problems_with_an_id(site: Site, client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.get("/nothing"), 404, "not_found")
    answer = client.patch("/v1/bases", headers={"x-request-id": "mine-1"})
    assert "Allow" in problem(answer, 405, "bad_input")
    assert (answer.headers["allow"], answer.headers["x-request-id"]) == ("GET, POST", "mine-1")
    assert client.get("/version", headers={"x-request-id": "no good id"}).headers["x-request-id"] != "no good id"
    told = problem(client.post("/v1/bases", json={"name": "No", "extra": 1}), 422, "bad_input")
    assert "body.name" in told and "body.source" in told and "body.extra" in told
    problem(client.post("/v1/bases", content=b"{", headers={"content-type": "application/json"}), 422, "bad_input")
    problem(client.get("/v1/bases", params={"limit": 0}), 422, "bad_input")
    problem(client.get("/v1/bases", params={"unknown": 0}), 422, "bad_input")
    problem(client.get("/v1/bases/none"), 404, "not_found")
    problem(client.post("/v1/bases", json={"name": BASE, "source": "starter:concise"}), 404, "not_found")
    problem(client.post("/v1/bases", json={"name": "x", "source": "/etc"}), 403, "access")


def test_what_was_not_foreseen_tells_nothing_of_the_inside(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(site.services.bases, "page", broken)
    assert "secret" not in problem(client.get("/v1/bases"), 500, "error")


def test_large_bodies_are_refused_whether_announced_or_not(tmp_path: Path) -> None:
    site = site_at(tmp_path / "store", limits=Limits(body_bytes=100))
    problem(site.client().post("/v1/bases", json={"name": "x" * 200}), 413, "too_large")
    chunks = (b"x" * 60 for _ in range(3))
    problem(site.client().post("/v1/bases", content=chunks, headers={"content-type": "application/json"}), 413, "too_large")


def test_tokens_and_scopes(site: Site, client: TestClient) -> None:
    answer = site.client(None).get("/v1/bases")
    problem(answer, 401, "access")
    assert answer.headers["www-authenticate"] == "Bearer"
    problem(site.client(None).get("/v1/nothing"), 401, "access")
    problem(site.client(None).get("/v1/bases", headers={"authorization": "Bearer wrong"}), 401, "access")
    reader, publisher = site.client("read"), site.client("publish")
    assert reader.get("/v1/bases").status_code == 200
    base = {"name": BASE, "source": "starter:base"}
    assert "publish" in problem(reader.post("/v1/bases", json=base), 403, "access")
    assert publisher.post("/v1/bases", json=base).status_code == 200
    assert "admin" in problem(publisher.get("/v1/tokens"), 403, "access")
    made = client.post("/v1/tokens", json={"name": "phones"}).json()
    assert made["scope"] == "read"
    assert site.client(None).get("/v1/bases", headers={"authorization": f"bearer {made['secret']}"}).status_code == 200
    assert client.get(f"/v1/tokens/{made['id']}").json()["secret"] is None
    assert made["secret"] not in client.get("/v1/tokens").text
    assert client.delete(f"/v1/tokens/{made['id']}").status_code == 204
    problem(site.client(None).get("/v1/bases", headers={"authorization": f"Bearer {made['secret']}"}), 401, "access")
    problem(client.get(f"/v1/tokens/{made['id']}"), 404, "not_found")


def test_every_write_is_logged_also_the_refused_ones(site: Site, client: TestClient) -> None:
    reader = site.client("read")
    reader.delete(f"/v1/pllms/{BASE}/x")
    publisher = site.client("publish")
    send(publisher, xpert_starter.path_of("concise") / "adapter_config.json")
    client.post("/v1/tokens", json={"name": "a"})
    reader.get("/v1/bases")
    found = client.get("/v1/audit").json()["items"]
    told = [(entry["method"], re.sub(r"[0-9a-f]{64}", "…", entry["path"]), entry["status"]) for entry in found]
    assert told == [
        ("POST", "/v1/tokens", 201),
        ("PUT", "/v1/uploads/…", 204),
        ("POST", "/v1/uploads", 200),
        ("DELETE", f"/v1/pllms/{BASE}/x", 403),
    ]
    assert found[0]["token"] == "environment (environment)"  # noqa: S105
    assert found[1]["token"].removeprefix("upload ") == found[2]["token"].removeprefix("t ")


def test_rates(tmp_path: Path) -> None:
    site = site_at(tmp_path / "store", limits=Limits(requests="3/hour", anonymous="2/hour"))
    client, other = site.client("read"), site.client("read")
    assert [client.get("/v1/bases").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = client.get("/v1/bases")
    problem(answer, 429, "unavailable")
    # A window's requests count on in the next one, by the part of it that is less than an hour ago.
    assert 0 < int(answer.headers["retry-after"]) <= 2 * 3600
    assert other.get("/v1/bases").status_code == 200
    assert [site.client(None).get("/v1/bases").status_code for _ in range(3)] == [401, 401, 429]
    assert other.get("/v1/bases").status_code == 200


def test_replicas_share_a_rate(tmp_path: Path) -> None:
    store = site_at(tmp_path / "store").store
    sites = [Site(store, limits=Limits(requests="7/hour", anonymous="1/hour", replicas=2)) for _ in range(2)]
    token = sites[0].client("read").headers["authorization"]
    clients = [site.client(None) for site in sites]
    codes = [client.get("/v1/bases", headers={"authorization": token}).status_code for client in clients * 4]
    assert (codes.count(200), codes.count(429)) == (6, 2), "together not more than the site's 7"
    assert [client.get("/v1/bases").status_code for client in clients * 2] == [401, 401, 429, 429], "one is the least of each"


def test_uploads_are_what_was_announced(site: Site, client: TestClient, tmp_path: Path) -> None:
    path = xpert_starter.path_of("concise") / "adapter_model.safetensors"
    data = path.read_bytes()
    body = {"digest": hashlib.sha256(data).hexdigest(), "size": len(data), "kind": "adapter"}
    asked = client.post("/v1/uploads", json=body).json()
    url, put = asked["url"], site.client(None).put
    problem(put(url, content=data[:-1]), 422, "bad_file")
    problem(put(url, content=data + b"x"), 413, "too_large")
    problem(put(url, content=data[:-1] + b"x"), 422, "bad_file")
    problem(put(url.replace("size=", "size=1"), content=data), 403, "access")
    problem(put(url.replace("kind=adapter", "kind=space"), content=data), 403, "access")
    problem(put(url.replace("signature=", "signature=0"), content=data), 422, "bad_input")
    assert put(url, content=data).status_code == 204
    assert client.post("/v1/uploads", json=body).json()["present"] is True
    too_much = {**body, "digest": "0" * 64, "size": 2**40}
    problem(client.post("/v1/uploads", json=too_much), 413, "too_large")
    problem(site.client("read").post("/v1/uploads", json=body), 403, "access")


@pytest.mark.parametrize(
    "data", [b"My own diary, dear reader.", b'["a list"]', b"\x80\x04pickled", b"PK\x03\x04zip", b"\x89PNG\r\n", b"{"]
)
def test_nothing_but_safetensors_and_json_is_taken(client: TestClient, data: bytes) -> None:
    asked = client.post("/v1/uploads", json={"digest": hashlib.sha256(data).hexdigest(), "size": len(data)}).json()
    answer = client.put(asked["url"], content=data)
    problem(answer, 422, "unsafe_file" if data[:2] in (b"\x80\x04", b"PK") else "bad_file")


def test_downloads_by_range(site: Site, client: TestClient, tmp_path: Path) -> None:
    digest = site.store.artifacts.put(make_file(tmp_path / "f", size=1000), kind="entry").digest
    data = (tmp_path / "f").read_bytes()
    answer = client.get(f"/v1/artifacts/{digest}")
    assert answer.status_code == 307
    url, get = answer.headers["location"], site.client(None).get
    assert get(url).content == data
    for asked, start, end in (
        ("bytes=0-9", 0, 10),
        ("bytes=990-", 990, 1000),
        ("bytes=-5", 995, 1000),
        ("bytes=5-5000", 5, 1000),
    ):
        part = get(url, headers={"range": asked})
        assert (part.status_code, part.content) == (206, data[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert get(url, headers={"range": "bytes=5-9", "if-range": f'"{digest}"'}).status_code == 206
    for whole in ({"range": "lines=1-2"}, {"range": "bytes=0-1,4-5"}, {"range": "bytes=0-1", "if-range": '"old"'}):
        assert (get(url, headers=whole).status_code, get(url, headers=whole).content) == (200, data)
    outside = get(url, headers={"range": "bytes=1000-"})
    problem(outside, 416, "bad_input")
    assert outside.headers["content-range"] == "bytes */1000"
    head = site.client(None).head(url)
    assert (head.headers["content-length"], head.headers["accept-ranges"], head.content) == ("1000", "bytes", b"")
    assert client.head(f"/v1/artifacts/{digest}").status_code == 307
    problem(get(url.replace(digest, "0" * 64)), 403, "access")
    problem(client.get(f"/v1/artifacts/{'0' * 64}"), 404, "not_found")


def test_an_address_runs_out(tmp_path: Path) -> None:
    site = site_at(tmp_path / "store", settings=Settings(admin_token=ADMIN, address_s=-1))
    digest = site.store.artifacts.put(make_file(tmp_path / "f", size=10), kind="entry").digest
    answer = site.client().get(f"/v1/artifacts/{digest}", follow_redirects=True)
    assert "run out" in problem(answer, 403, "access")


def test_an_empty_and_a_large_file_come_from_a_bucket_too(store: Store, tmp_path: Path) -> None:
    site = Site(store)
    for size in (0, 3 * 2**20 + 1):
        path = make_file(tmp_path / f"f{size}", size=size)
        digest = store.artifacts.put(path, kind="entry").digest
        assert site.client().get(f"/v1/artifacts/{digest}", follow_redirects=True).content == path.read_bytes()


def test_a_pllm_is_registered_once(client: TestClient, site: Site) -> None:
    made = publish(client, "concise")
    assert made["job"] == client.get("/v1/jobs").json()["items"][0]["id"]
    assert publish(client, "concise")["job"] == made["job"]
    files = {**made["files"], "adapter_config.json": send(client, xpert_starter.path_of("base") / "config.json")}
    problem(client.post("/v1/pllms", json={"name": "concise", "base": BASE, "files": files}), 409, "conflict")
    for bad, status, code in (
        ({"adapter_model.bin": "0" * 64}, 422, "unsafe_file"),
        ({"adapter_config.json": files["adapter_config.json"]}, 422, "bad_input"),
        ({**files, "adapter_model.safetensors": "0" * 64}, 404, "not_found"),
    ):
        problem(client.post("/v1/pllms", json={"name": "other", "base": BASE, "files": bad}), status, code)
    problem(client.post("/v1/pllms", json={"name": "other", "base": "none", "files": files}), 404, "not_found")
    assert client.delete(f"/v1/pllms/{BASE}/concise").status_code == 204
    problem(client.get(f"/v1/pllms/{BASE}/concise"), 404, "not_found")
    again = publish(client, "concise")
    assert again["job"] != made["job"]


def test_large_adapters_are_refused(tmp_path: Path) -> None:
    site = site_at(tmp_path / "store", settings=Settings(admin_token=ADMIN, most_bytes=5000)).with_base()
    draft = draft_of(site.store, "concise")
    problem(site.client().post("/v1/pllms", json=draft.model_dump()), 413, "too_large")


def test_pages_and_words(site: Site, client: TestClient, tmp_path: Path) -> None:
    client.post("/v1/bases", json={"name": "another", "source": "starter:base"})
    for n, name in enumerate(["a", "a-b", "a.b", "b"]):
        pllm, _, _ = site.services.pllms.register(draft_of(site.store, name))
        explain_by_chance(site.services, pllm, tmp_path, seed=n, words={"poetic": n / 4, "formal": -n / 4})
    names, after = [], None
    while True:
        page = client.get("/v1/pllms", params={"limit": 1} | ({"after": after} if after else {})).json()
        names += [pllm["name"] for pllm in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(names) == ["a", "a-b", "a.b", "b"] and len(set(names)) == 4
    found = client.get("/v1/pllms", params={"base": BASE, "word": ["poetic:0.5", "formal:-0.6"]}).json()["items"]
    assert [pllm["name"] for pllm in found] == ["b"]
    assert client.get("/v1/pllms", params={"base": "another"}).json()["items"] == []
    problem(client.get("/v1/pllms", params={"word": "a personal text: 0.5"}), 422, "bad_input")
    problem(client.get("/v1/pllms", params={"after": "a"}), 422, "bad_input")
    problem(client.get("/v1/pllms", params={"base": "none"}), 404, "not_found")


def test_spaces(client: TestClient, tmp_path: Path) -> None:
    assert [space["digest"] for space in client.get("/v1/spaces").json()["items"]] == [SPACE]
    StyleSpace.default().save(tmp_path / "s.safetensors")
    answer = client.post("/v1/spaces", json={"artifact": send(client, tmp_path / "s.safetensors", kind="space")})
    assert (answer.status_code, answer.json()["digest"]) == (200, SPACE)
    assert client.get(f"/v1/spaces/{SPACE}").json()["words"] == list(StyleSpace.default().words)
    wrong = send(client, xpert_starter.path_of("concise") / "adapter_model.safetensors", kind="space")
    problem(client.post("/v1/spaces", json={"artifact": wrong}), 422, "bad_file")
    problem(client.get(f"/v1/spaces/{'0' * 64}"), 404, "not_found")


def test_exemplars_are_checked_and_named(client: TestClient, tmp_path: Path) -> None:
    for n, rows in enumerate(([{"id": "1", "prompt": "p", "style": "s"}], "no list")):
        write_json(tmp_path / f"{n}.json", {"format": "xpert-exemplars", "version": 1, "exemplars": rows})
        body = (tmp_path / f"{n}.json").read_bytes()
        asked = {"digest": hashlib.sha256(body).hexdigest(), "size": len(body), "kind": "exemplars"}
        told = problem(client.put(client.post("/v1/uploads", json=asked).json()["url"], content=body), 422, "bad_file")
        assert "'the upload'" in told
    for wrong in (
        {},
        {"exemplars": "0" * 64},
        {"artifact": "0" * 64, "name": "n"},
        {"artifact": "0" * 64, "exemplars": "0" * 64},
    ):
        assert "body" in problem(client.post("/v1/spaces", json=wrong), 422, "bad_input")
    problem(client.post("/v1/spaces", json={"exemplars": "0" * 64, "name": "n"}), 404, "not_found")


def test_a_catalogue_by_version(site: Site, client: TestClient, tmp_path: Path) -> None:
    url = f"/v1/catalogues/{BASE}"
    problem(client.get(url), 404, "not_found")
    for n, name in enumerate("bdf"):
        pllm, _, _ = site.services.pllms.register(draft_of(site.store, name))
        explain_by_chance(site.services, pllm, tmp_path, seed=n)
    first = client.get(url)
    same = client.get(url, headers={"if-none-match": f'W/"x", {first.headers["etag"]}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    (tmp_path / "first").write_bytes(first.content)
    assert len(load_compact(tmp_path / "first").names) == 3
    described = client.get(url, headers={"accept": "application/json"})
    info = described.json()
    assert (info["pllms"], info["n_bytes"], f'"{info["version"]}"') == (
        ["b", "d", "f"],
        len(first.content),
        first.headers["etag"],
    )
    assert described.headers["etag"] != first.headers["etag"]
    assert client.delete(f"/v1/pllms/{BASE}/d").status_code == 204
    pllm, _, _ = site.services.pllms.register(draft_of(site.store, "a"))
    explain_by_chance(site.services, pllm, tmp_path, seed=9)
    explain_by_chance(site.services, site.services.pllms.get(BASE, "b"), tmp_path, seed=10)
    now = client.get(url)
    delta = client.get(url, params={"since": info["version"]})
    assert delta.headers["content-type"] == "application/vnd.xpert.catalogue-delta"
    (tmp_path / "delta").write_bytes(delta.content)
    apply_delta(tmp_path / "first", tmp_path / "delta", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == now.content
    unknown = client.get(url, params={"since": "0" * 64})
    assert (unknown.headers["content-type"], unknown.content) == ("application/vnd.xpert.catalogue", now.content)
    problem(client.get(url, params={"space": "0" * 64}), 404, "not_found")
    problem(client.get("/v1/catalogues/none"), 404, "not_found")


def test_a_change_whose_writer_ended_too_early_comes_with_the_next_start(site: Site, client: TestClient, tmp_path: Path) -> None:
    pllm, _, _ = site.services.pllms.register(draft_of(site.store, "a"))
    explain_by_chance(site.services, pllm, tmp_path, seed=1)
    site.services.pllms.remove(BASE, "a")
    assert client.get(f"/v1/catalogues/{BASE}").status_code == 200
    site.services.catalogues.refresh_all()
    problem(client.get(f"/v1/catalogues/{BASE}"), 404, "not_found")


def test_jobs_watched_and_cancelled(site: Site, client: TestClient) -> None:
    publish(client, "concise")
    asked = client.post("/v1/explanations", json={"base": BASE})
    assert asked.status_code == 202
    job = asked.json()["id"]
    assert client.get("/v1/jobs", params={"state": "running"}).json()["items"] == []
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "queued"
    problem(site.client("read").delete(f"/v1/jobs/{job}"), 403, "access")
    assert client.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    watched = client.get(f"/v1/jobs/{job}/events")
    assert watched.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in watched.text.splitlines() if line]
    assert lines[0] == "event: job"
    assert json.loads(lines[1].removeprefix("data: "))["state"] == "cancelled"
    problem(client.get(f"/v1/jobs/{'0' * 64}/events"), 404, "not_found")
    problem(client.post("/v1/explanations", json={"base": BASE, "pllms": ["none"]}), 404, "not_found")
    merge = {"name": "mix", "base": BASE, "sources": [{"pllm": "concise", "weight": 1.0}]}
    assert client.post("/v1/merges", json=merge).json()["kind"] == "merge"
    problem(client.post("/v1/merges", json={**merge, "name": "concise"}), 422, "bad_input")
    problem(client.post("/v1/merges", json={**merge, "sources": merge["sources"] * 2}), 422, "bad_input")
