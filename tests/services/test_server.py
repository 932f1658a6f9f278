"""The embedded server as a process, on the starter models, end to end."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trustme
from api_cases import BASE, publish
from server_cases import client_of, serving, wait, watch

import xpert_starter
from xpert.core.catalogue import load_compact
from xpert.models.adapters import WEIGHTS, read_adapter
from xpert_services.__main__ import parse

pytestmark = pytest.mark.slow


def test_publish_explain_choose_download_merge(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, said):
        token = said[0].rsplit(" ", 1)[1]
        with client_of(url, token) as client:
            assert client.post("/v1/bases", json={"name": BASE, "source": "starter:base"}).status_code == 201
            jobs = [publish(client, name)["job"] for name in ("concise", "poetic")]
            # Ended in the middle of the work, the server gives back what is left of it, and the next one goes on.
            next(job for job in watch(client, jobs[0]) if job["done"] > 0)
    with serving(tmp_path) as (url, said), client_of(url, token) as client:
        assert said == []
        assert [wait(client, job)["attempts"] for job in jobs] == [1, 1]
        first = client.get(f"/v1/catalogues/{BASE}")
        (tmp_path / "catalogue").write_bytes(first.content)
        candidates = load_compact(tmp_path / "catalogue")
        assert client.get(f"/v1/catalogues/{BASE}", headers={"if-none-match": first.headers["etag"]}).status_code == 304
        top = {p["name"]: p["explanation"]["words"][0]["word"] for p in client.get("/v1/pllms").json()["items"]}
        assert top["poetic"] == "poetic"
        pllm = client.get(f"/v1/pllms/{BASE}/poetic").json()
        assert pllm["adapter_digest"][:16] in candidates.names
        assert pllm["adapter_digest"] == read_adapter(xpert_starter.path_of("poetic")).digest
        where = f"/v1/artifacts/{pllm['files'][WEIGHTS]}"
        halves = [client.get(where, headers={"range": asked}, follow_redirects=True) for asked in ("bytes=0-2999", "bytes=3000-")]
        assert [half.status_code for half in halves] == [206, 206]
        assert b"".join(half.content for half in halves) == (xpert_starter.path_of("poetic") / WEIGHTS).read_bytes()
        sources = [{"pllm": "concise", "weight": 0.6}, {"pllm": "poetic", "weight": 0.4}]
        merge = client.post("/v1/merges", json={"name": "mix", "base": BASE, "sources": sources}).json()
        wait(client, wait(client, merge["id"])["result"]["job"])
        assert len(client.get(f"/v1/catalogues/{BASE}").content) > len(first.content)


def test_under_tls_with_a_given_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("XPERT_ADMIN_TOKEN", "t" * 40)
    with serving(tmp_path, "--certificate", str(tmp_path / "server.pem"), "--key", str(tmp_path / "server.pem")) as (url, said):
        assert (url.startswith("https://127.0.0.1:"), said) == (True, [])
        trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        answer = httpx2.get(f"{url}/v1/tokens", headers={"authorization": f"Bearer {'t' * 40}"}, verify=trusted)
        assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XPERT_ADMIN_TOKEN", "t" * 40)
    site = parse(["--store", "s", "--port", "1", "--models", str(tmp_path), "--most-mib", "3", "--rate", "5/minute"])
    assert (site.store, site.port, site.settings.most_bytes, site.limits.requests) == ("s", 1, 3 * 2**20, "5/minute")
    assert "t" * 40 not in repr(site)
    assert parse(["--store", "s", "--replicas", "3"]).limits.replicas == 3
    wrong = [sys.executable, "-m", "xpert_services", "--store", "ftp://x"]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert (done.returncode, "ftp" in done.stderr) == (3, True)
