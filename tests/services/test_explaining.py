"""Explaining and merging as jobs, on the starter models: many in one batch, and what is wrong with one concerns that one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from api_cases import ASKING, BASE, Site, publish, send, site_at
from starlette.testclient import TestClient

import xpert_starter
from xpert.core import data
from xpert.core.catalogue import load_compact
from xpert.core.exemplars import save_exemplars
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.space import build_space
from xpert.models import probing
from xpert.models.adapters import BASE_KEY, WEIGHTS, read_adapter
from xpert.models.encoders import default_encoder
from xpert.models.merging import merge_adapters
from xpert_services.jobs import Worker
from xpert_services.local import make_worker
from xpert_services.store import Retention

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path / "store").with_base()


@pytest.fixture
def client(site: Site) -> TestClient:
    return site.client()


@pytest.fixture
def worker(site: Site, tmp_path: Path) -> Worker:
    return make_worker(site.services, cache=tmp_path / "cache")


def copy_of(name: str, folder: Path, change: Callable[[dict[str, np.ndarray], dict[str, str]], None]) -> Path:
    """A starter adapter with changed weights."""
    shutil.copytree(xpert_starter.path_of(name), folder)
    arrays, metadata = read_safetensors(folder / WEIGHTS)
    change(arrays, metadata)
    write_safetensors(folder / WEIGHTS, arrays, metadata)
    return folder


def spoil(arrays: dict[str, np.ndarray], _: dict[str, str]) -> None:
    arrays[min(arrays)][0, 0] = np.nan


def narrow(arrays: dict[str, np.ndarray], _: dict[str, str]) -> None:
    name = next(name for name in sorted(arrays) if "lora_A" in name)
    arrays[name] = arrays[name][:, :-1]


def estrange(_: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    metadata[BASE_KEY] = "0" * 64


def test_pllms_are_explained_together_and_a_bad_one_fails_alone(
    site: Site, client: TestClient, worker: Worker, tmp_path: Path
) -> None:
    jobs = {name: publish(client, name)["job"] for name in ("concise", "poetic")}
    for name, change, _ in (cases := (("nan", spoil, "NaN"), ("narrow", narrow, "is ("), ("foreign", estrange, "was made for"))):
        jobs[name] = publish(client, name, copy_of("concise", tmp_path / name, change))["job"]
    assert (worker.step(), worker.step()) == (True, False)
    states = {name: client.get(f"/v1/jobs/{job}").json() for name, job in jobs.items()}
    assert {name for name, job in states.items() if job["state"] == "succeeded"} == {"concise", "poetic"}
    info = client.get(f"/v1/catalogues/{BASE}", headers={"accept": "application/json"}).json()
    assert info["pllms"] == ["concise", "poetic"]
    for name, _, told in cases:
        assert states[name]["state"] == "failed"
        assert told in states[name]["error"]
        pllm = client.get(f"/v1/pllms/{BASE}/{name}").json()
        assert (told in pllm["quarantined"], pllm["explanation"]) == (True, None)
        none = client.get(f"/v1/pllms/{BASE}/{name}/answers")
        assert (none.status_code, told in none.json()["detail"]) == (404, True)
        assert str(tmp_path) not in pllm["quarantined"] and "/tmp" not in pllm["quarantined"]  # noqa: S108
        refused = client.get(f"/v1/artifacts/{pllm['files'][WEIGHTS]}")
        assert (refused.status_code, "quarantine" in refused.json()["detail"]) == (422, True)
    found = client.get(f"/v1/pllms/{BASE}/concise").json()
    assert found["explanation"]["n_probes"] == 4
    assert found["adapter_digest"] == read_adapter(xpert_starter.path_of("concise")).digest
    assert client.get(f"/v1/artifacts/{found['files'][WEIGHTS]}").status_code == 307
    merge = {"name": "mix", "base": BASE, "sources": [{"pllm": "nan", "weight": 1.0}]}
    assert client.post("/v1/merges", json=merge).status_code == 422


def test_what_is_not_published_is_explained_and_in_no_catalogue(client: TestClient, worker: Worker) -> None:
    for name in ("concise", "poetic"):
        publish(client, name)
    where = f"/v1/pllms/{BASE}/poetic"
    assert not client.patch(where, json={"publish": False}).json()["published"]
    worker.step()

    def listed() -> list[str]:
        found: list[str] = client.get(f"/v1/catalogues/{BASE}", headers={"accept": "application/json"}).json()["pllms"]
        return found

    assert listed() == ["concise"]
    assert client.get(where).json()["explanation"]["n_probes"] == 4
    assert client.patch(where, json={"publish": True}).json()["published"]
    assert listed() == ["concise", "poetic"]
    client.patch(where, json={"publish": False})
    assert listed() == ["concise"]
    assert client.patch(f"/v1/pllms/{BASE}/nobody", json={"publish": True}).status_code == 404


def test_answers_are_read_by_pages(site: Site, client: TestClient, worker: Worker) -> None:
    publish(client, "poetic")
    where = f"/v1/pllms/{BASE}/poetic/answers"
    early = client.get(where)
    assert (early.status_code, "not explained yet" in early.json()["detail"]) == (404, True)
    worker.step()
    first = site.client("read").get(where, params={"limit": 3}).json()
    rest = client.get(where, params={"after": first["next"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (3, 1, None)
    both = [*first["items"], *rest["items"]]
    assert tuple(answer["prompt"] for answer in both) == site.services.settings.asking.asked
    assert all(answer["base"] and answer["pllm"] for answer in both)
    assert any(answer["base"] != answer["pllm"] for answer in both)
    assert client.get(where, params={"after": "nobody"}).status_code == 422
    # The collector takes none of what the answers are read from.
    site.store.collect_garbage(retention=Retention(timedelta(0)))
    assert client.get(where).json()["items"] == both


def test_answers_are_made_once_whichever_worker_asks(
    site: Site, client: TestClient, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("concise", "poetic"):
        publish(client, name)
    worker.step()
    first = client.get(f"/v1/catalogues/{BASE}")

    def never(*_: object) -> list[str]:
        raise AssertionError("answers are made again")

    monkeypatch.setattr(probing, "_generate", never)
    job = client.post("/v1/explanations", json={"base": BASE}).json()["id"]
    assert make_worker(site.services, cache=tmp_path / "another").step()
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
    assert client.get(f"/v1/catalogues/{BASE}", headers={"if-none-match": first.headers["etag"]}).status_code == 304


def test_a_crash_in_one_explanation_fails_that_job_alone(
    site: Site, client: TestClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {name: publish(client, name)["job"] for name in ("concise", "poetic", "formal")}
    encode = site.services.pllms.set_explained

    def crash(base: str, name: str, *rest: object) -> object:
        if name == "poetic":
            raise MemoryError("does not fit")
        return encode(base, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(site.services.pllms, "set_explained", crash)
    worker.step()
    states = {name: client.get(f"/v1/jobs/{job}").json()["state"] for name, job in jobs.items()}
    assert states == {"concise": "succeeded", "poetic": "failed", "formal": "succeeded"}


def test_a_merge_is_exact_and_explained(site: Site, client: TestClient, worker: Worker, tmp_path: Path) -> None:
    for name in ("concise", "poetic"):
        publish(client, name)
    sources = [{"pllm": "concise", "weight": 0.5}, {"pllm": "poetic", "weight": 0.75}]
    job = client.post("/v1/merges", json={"name": "mix", "base": BASE, "sources": sources}).json()["id"]
    while worker.step():
        pass
    result = client.get(f"/v1/jobs/{job}").json()["result"]
    assert result["pllm"] == f"{BASE}/mix"
    assert client.get(f"/v1/jobs/{result['job']}").json()["state"] == "succeeded"
    pllm = client.get(f"/v1/pllms/{BASE}/mix").json()
    assert pllm["merged_from"] == sources
    assert pllm["explanation"]
    made = tmp_path / "mix"
    made.mkdir()
    for name, digest in pllm["files"].items():
        (made / name).write_bytes(client.get(f"/v1/artifacts/{digest}", follow_redirects=True).content)
    assert [source["name"] for source in json.loads((made / "recipe.json").read_text())["sources"]] == ["concise", "poetic"]
    expected = merge_adapters([(read_adapter(xpert_starter.path_of(s["pllm"])), s["weight"]) for s in sources]).adapter
    merged = read_adapter(made)
    for module, pair in expected.modules.items():
        np.testing.assert_allclose(merged.modules[module].B @ merged.modules[module].A, pair.B @ pair.A, atol=1e-6)
    assert client.post("/v1/merges", json={"name": "mix", "base": BASE, "sources": sources}).json()["id"] == job
    other = client.post("/v1/merges", json={"name": "mix", "base": BASE, "sources": sources[:1]})
    assert other.status_code == 409


def test_a_merge_that_was_removed_is_made_again(client: TestClient, worker: Worker) -> None:
    publish(client, "concise")
    draft = {"name": "half", "base": BASE, "sources": [{"pllm": "concise", "weight": 0.5}]}
    first = client.post("/v1/merges", json=draft).json()["id"]
    while worker.step():
        pass
    files = client.get(f"/v1/pllms/{BASE}/half").json()["files"]
    assert client.delete(f"/v1/pllms/{BASE}/half").status_code == 204
    again = client.post("/v1/merges", json=draft).json()
    assert (again["id"], again["state"]) == (first, "queued")
    while worker.step():
        pass
    assert client.get(f"/v1/pllms/{BASE}/half").json()["files"] == files


def test_a_space_is_built_from_exemplars_and_pllms_are_explained_in_it(
    site: Site, client: TestClient, worker: Worker, tmp_path: Path
) -> None:
    texts = [text for text in data.exemplars() if text.style in ("neutral", "poetic", "concise")]
    save_exemplars(tmp_path / "e.json", texts)
    asked = {"exemplars": send(client, tmp_path / "e.json", kind="exemplars"), "name": "two", "version": 3}
    first = client.post("/v1/spaces", json=asked)
    assert (first.status_code, first.json()["kind"], first.json()["subject"]) == (202, "space", "two, version 3")
    site.store.collect_garbage(retention=Retention(timedelta(0)))  # what waits in the queue is kept
    while worker.step():
        pass
    job = client.post("/v1/spaces", json=asked).json()
    assert (job["id"], job["state"], job["done"]) == (first.json()["id"], "succeeded", len(texts))
    space = client.get(f"/v1/spaces/{job['result']['space']}").json()
    assert (space["name"], space["version"], space["words"]) == ("two", 3, ["concise", "poetic"])
    other = client.post("/v1/spaces", json={**asked, "encoder": "other"})
    assert (other.status_code, other.json()["code"]) == (422, "mismatch"), other.text
    assert client.post("/v1/spaces", json={**asked, "encoder": space["encoder"]}).json()["id"] == job["id"]
    expected = build_space(texts, default_encoder(), name="two", version=3)
    np.testing.assert_allclose(site.services.spaces.load(space["digest"]).axes, expected.axes, atol=1e-4)
    for name in ("concise", "poetic"):
        publish(client, name)
    while worker.step():
        pass
    explained = client.post("/v1/explanations", json={"base": BASE, "space": space["digest"]}).json()["id"]
    while worker.step():
        pass
    assert client.get(f"/v1/jobs/{explained}").json()["state"] == "succeeded"
    there = {"space": space["digest"]}
    pllm = client.get(f"/v1/pllms/{BASE}/poetic", params=there).json()["explanation"]
    assert (pllm["space"], {word["word"] for word in pllm["words"]}) == (space["digest"], {"concise", "poetic"})
    assert len(client.get(f"/v1/pllms/{BASE}/poetic").json()["explanation"]["words"]) == 24, "the default space stays"
    (tmp_path / "c").write_bytes(client.get(f"/v1/catalogues/{BASE}", params=there).content)
    assert load_compact(tmp_path / "c").words == ("concise", "poetic")
    listed = client.get("/v1/pllms", params={**there, "word": "poetic:0"}).json()["items"]
    assert {each["explanation"]["space"] for each in listed} == {space["digest"]}


def test_a_space_with_probes_of_its_own_has_pllms_asked_by_them(
    site: Site, client: TestClient, worker: Worker, tmp_path: Path
) -> None:
    texts = [text for text in data.exemplars() if text.style in ("neutral", "poetic", "concise")]
    probes = [f"What is {what}?" for what in ("rain", "salt", "a hat", "a boat", "jam")]
    save_exemplars(tmp_path / "e.json", texts, probes=probes)
    exemplars = send(client, tmp_path / "e.json", kind="exemplars")
    job = client.post("/v1/spaces", json={"exemplars": exemplars, "name": "asked"}).json()["id"]
    publish(client, "poetic")
    while worker.step():
        pass
    space = client.get(f"/v1/jobs/{job}").json()["result"]["space"]
    assert client.get(f"/v1/spaces/{space}").json()["probes"]
    site.store.collect_garbage(retention=Retention(timedelta(0)))
    explained = client.post("/v1/explanations", json={"base": BASE, "space": space}).json()
    assert explained["total"] == 2 * len(probes)
    while worker.step():
        pass
    assert client.get(f"/v1/jobs/{explained['id']}").json()["state"] == "succeeded"
    found = [client.get(f"/v1/pllms/{BASE}/poetic", params=q).json()["explanation"]["n_probes"] for q in ({"space": space}, {})]
    assert found == [len(probes), len(ASKING.asked)]
    save_exemplars(tmp_path / "e.json", texts, probes=[*probes, "What is tea?"])
    other = client.post("/v1/spaces", json={"exemplars": send(client, tmp_path / "e.json", kind="exemplars"), "name": "asked"})
    while worker.step():
        pass
    failed = client.get(f"/v1/jobs/{other.json()['id']}").json()
    assert (failed["state"], failed["code"]) == ("failed", "conflict")
    assert "Give it another version" in failed["error"]


def test_exemplars_that_do_not_do_fail_their_job_alone(client: TestClient, worker: Worker, tmp_path: Path) -> None:
    texts = [text for text in data.exemplars() if text.style in ("neutral", "poetic")]
    jobs = {}
    for name, kept in (("good", texts), ("bad", [text for text in texts if text.style != "neutral"])):
        save_exemplars(tmp_path / f"{name}.json", kept)
        digest = send(client, tmp_path / f"{name}.json", kind="exemplars")
        jobs[name] = client.post("/v1/spaces", json={"exemplars": digest, "name": name}).json()["id"]
    while worker.step():
        pass
    good, bad = (client.get(f"/v1/jobs/{jobs[name]}").json() for name in ("good", "bad"))
    assert (good["state"], bad["state"], bad["code"]) == ("succeeded", "failed", "bad_input")
    assert "0 texts in the style 'neutral'" in bad["error"]
    assert len(client.get("/v1/spaces").json()["items"]) == 2, "the default one and the good one"


def test_a_base_that_changed_since_it_was_registered_fails_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "base"
    shutil.copytree(xpert_starter.path_of("base"), folder)
    site = site_at(tmp_path / "store")
    settings = site.settings.__class__(
        admin_token=site.settings.admin_token, asking=site.settings.asking, folders=[tmp_path / "models"]
    )
    site = Site(site.store, settings=settings)
    client = site.client()
    assert client.post("/v1/bases", json={"name": BASE, "source": str(folder)}).status_code == 201
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 2e-5}))
    job = publish(client, "concise")["job"]
    make_worker(site.services, cache=tmp_path / "cache").step()
    found = client.get(f"/v1/jobs/{job}").json()
    assert (found["state"], found["code"]) == ("failed", "mismatch")
    assert client.get(f"/v1/pllms/{BASE}/concise").json()["quarantined"] is None
    assert client.post("/v1/bases", json={"name": BASE, "source": str(folder)}).status_code == 409


def test_a_pllm_that_was_removed_before_its_job_fails_it(site: Site, client: TestClient, worker: Worker) -> None:
    job = publish(client, "concise")["job"]
    client.delete(f"/v1/pllms/{BASE}/concise")
    worker.step()
    found = client.get(f"/v1/jobs/{job}").json()
    assert (found["state"], found["code"]) == ("failed", "not_found")
