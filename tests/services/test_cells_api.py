"""Cells of a catalogue on the real app: by version, bound to their index, for whoever may read; and as a client asks for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_cases import ADMIN, ASKING, BASE, Site, draft_of, explain_by_chance, site_at
from server_cases import listening
from starlette.testclient import TestClient
from typer.testing import CliRunner

from xpert.cli.app import app
from xpert.client import Client
from xpert.core.catalogue import load_compact
from xpert.core.cells import CellIndex, load_cell
from xpert.core.errors import AccessError, NotFoundError
from xpert.core.explanation import Explanation
from xpert.core.selection import select
from xpert.core.space import StyleSpace
from xpert.wire import Problem
from xpert_services.services import Settings

INDEX = f"/v1/catalogues/{BASE}/cells"
CAPACITY = 6
N_PLLMS = 24
SPACE = StyleSpace.default().digest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and the entries of its pLLMs, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    site = site_at(folder / "store").with_base()
    for number in range(N_PLLMS):
        add(site, folder, number)
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    """A site with a catalogue of several cells."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return site_at(tmp_path / "store", settings=Settings(admin_token=ADMIN, asking=ASKING, cell_capacity=CAPACITY))


@pytest.fixture
def client(site: Site) -> TestClient:
    return site.client("read")


def add(site: Site, folder: Path, number: int) -> str:
    pllm, _, _ = site.services.pllms.register(draft_of(site.store, f"p{number}"))
    return explain_by_chance(site.services, pllm, folder, seed=number).adapter_digest


def index_of(client: TestClient, folder: Path) -> CellIndex:
    (folder / "index").write_bytes(client.get(INDEX).content)
    return CellIndex.load(folder / "index")


def refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, Problem.model_validate(answer.json()).code) == (status, code), answer.text


def test_the_index_by_version(site: Site, client: TestClient, tmp_path: Path) -> None:
    first = client.get(INDEX)
    tag = first.headers["etag"]
    index = index_of(client, tmp_path)
    assert (first.headers["content-type"], tag) == ("application/vnd.xpert.catalogue-cells", f'"{index.digest}"')
    assert (index.n_pllms, index.space_digest, first.headers["vary"]) == (N_PLLMS, SPACE, "Authorization")
    for same in (tag, f'W/{tag}, "x"', "*"):
        answer = client.get(INDEX, headers={"if-none-match": same})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(INDEX, headers={"if-none-match": '"x"'}).content == first.content
    assert client.get(INDEX, params={"space": SPACE}).content == first.content
    add(site, tmp_path, N_PLLMS)
    changed = client.get(INDEX, headers={"if-none-match": tag})
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)


def test_cells_are_of_their_index_and_hold_every_pllm(client: TestClient, tmp_path: Path) -> None:
    index = index_of(client, tmp_path)
    (tmp_path / "whole").write_bytes(client.get(f"/v1/catalogues/{BASE}").content)
    whole = load_compact(tmp_path / "whole")
    at = dict(zip(whole.names, whole.coefficients, strict=True))
    seen: set[str] = set()
    assert len(index.centres) >= N_PLLMS // CAPACITY
    for number in range(len(index.centres)):
        answer = client.get(f"{INDEX}/{index.cell_name(number)}")
        assert answer.headers["content-type"] == "application/vnd.xpert.catalogue-cell"
        assert (answer.headers["etag"], "immutable" in answer.headers["cache-control"]) == (f'"{index.cell_name(number)}"', True)
        (tmp_path / "cell").write_bytes(answer.content)
        cell = load_cell(tmp_path / "cell", index, number)
        assert len(cell.names) == CAPACITY
        assert np.allclose(cell.coefficients, [at[name] for name in cell.names], atol=np.ptp(whole.coefficients) / 254)
        seen.update(cell.names)
    assert seen == set(whole.names)


def test_what_is_no_cell_is_not_found(site: Site, client: TestClient, tmp_path: Path) -> None:
    index = index_of(client, tmp_path)
    for wrong in (index.cell_name(len(index.centres)), f"{'0' * 16}-0"):
        refused(client.get(f"{INDEX}/{wrong}"), 404, "not_found")
    for wrong in ("0", f"{index.digest[:16]}-x", f"{index.digest}-0", f"{index.digest[:16]}--1"):
        refused(client.get(f"{INDEX}/{wrong}"), 422, "bad_input")
    refused(client.get(INDEX, params={"space": "0" * 64}), 404, "not_found")
    refused(client.get(INDEX, params={"coefficients": "0.1"}), 422, "bad_input")
    refused(client.get("/v1/catalogues/none/cells"), 404, "not_found")
    add(site, tmp_path, N_PLLMS)
    refused(client.get(f"{INDEX}/{index.cell_name(0)}"), 404, "not_found")


def test_a_pllm_by_its_id(site: Site, client: TestClient) -> None:
    where = f"/v1/catalogues/{BASE}/pllms"
    for name in ("p3", "p17"):
        known = site.services.pllms.get(BASE, name)
        answer = client.get(f"{where}/{known.adapter_digest[:16]}")
        assert (answer.status_code, answer.json()) == (200, client.get(f"/v1/pllms/{BASE}/{name}").json())
        assert answer.json()["name"] == name
    refused(client.get(f"{where}/{'0' * 16}"), 404, "not_found")
    refused(client.get(f"{where}/p3"), 422, "bad_input")
    refused(client.get(f"/v1/catalogues/none/pllms/{'0' * 16}"), 404, "not_found")
    gone = site.services.pllms.get(BASE, "p3").adapter_digest[:16]
    assert site.client().delete(f"/v1/pllms/{BASE}/p3").status_code == 204
    refused(client.get(f"{where}/{gone}"), 404, "not_found")


def test_only_who_may_read_is_answered(site: Site, client: TestClient, tmp_path: Path) -> None:
    index = index_of(client, tmp_path)
    for path in (INDEX, f"{INDEX}/{index.cell_name(0)}", f"/v1/catalogues/{BASE}/pllms/{'0' * 16}"):
        refused(site.client(None).get(path), 401, "access")
        refused(site.client(None).get(path, headers={"authorization": "Bearer wrong"}), 401, "access")
        refused(client.post(path), 405, "bad_input")


class TestAsAClient:
    """The same over sockets: nothing stands between `xpert.client` and the server."""

    @pytest.fixture
    def url(self, site: Site) -> Iterator[str]:
        with listening(site.app) as port:
            yield f"http://127.0.0.1:{port}"

    @pytest.fixture
    def token(self, client: TestClient) -> str:
        return str(client.headers["authorization"]).removeprefix("Bearer ")

    def texts(self, folder: Path, number: int) -> np.ndarray[Any, Any]:
        entry = Explanation.load(folder / f"p{number}.{number}.entry.json")
        return np.array([np.add(entry.base_coefficients, entry.coefficients)] * 12)

    def test_the_choice_from_a_cell_is_that_from_the_whole(self, url: str, token: str, site: Site, tmp_path: Path) -> None:
        with Client(url, token=token, cache=tmp_path / "kept") as phone:
            whole = phone.catalogue(BASE).candidates
            for number in (3, 11, 20):
                texts = self.texts(tmp_path, number)
                assert phone.catalogue_for(BASE, texts).candidates.names == whole.names, "small: it tells nothing"
                part = phone.catalogue_for(BASE, texts, cells=3, most_whole=0).candidates
                assert len(part.names) < N_PLLMS
                chosen = select(texts, part).matches[0].name
                assert chosen == site.services.pllms.get(BASE, f"p{number}").adapter_digest[:16]
                assert select(texts, whole).matches[0].name == f"p{number}"
                assert phone.pull(BASE, chosen) == phone.pull(BASE, f"p{number}")

    def test_a_change_is_followed(self, url: str, token: str, site: Site, tmp_path: Path) -> None:
        with Client(url, token=token, cache=tmp_path / "kept") as phone:
            first = phone.catalogue_for(BASE, self.texts(tmp_path, 3), cells=2, most_whole=0)
            digest = add(site, tmp_path, N_PLLMS)
            new = phone.catalogue_for(BASE, self.texts(tmp_path, N_PLLMS), cells=2, most_whole=0)
            assert (new.version != first.version, digest[:16] in new.candidates.names) == (True, True)
            with pytest.raises(NotFoundError):
                phone.catalogue_for("other", self.texts(tmp_path, 3))
        with Client(url, cache=tmp_path / "other") as phone, pytest.raises(AccessError):
            phone.catalogue_for(BASE, self.texts(tmp_path, 3))

    @pytest.mark.slow
    def test_xpert_select(self, url: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XPERT_TOKEN", token)
        monkeypatch.setenv("XPERT_CACHE", str(tmp_path / "cache"))
        rows = [{"text": f"O silver moon, thy {n} beams lie softly on the sleeping sea."} for n in range(12)]
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ["select", str(tmp_path / "mine.jsonl"), "-c", f"{url}/v1/catalogues/{BASE}", "--json"]
        found = []
        for options in ([], ["--whole-kib", "0"], ["--whole-kib", "0", "--cells", "2"], ["--whole-kib", "2"]):
            done = CliRunner().invoke(app, [*words, *options], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            found.append([match["name"] for match in json.loads(done.stdout)["matches"]])
        whole, eight, two, small = found
        assert sorted(whole) == sorted(small) == sorted(f"p{number}" for number in range(N_PLLMS))
        for names in (eight, two):
            assert len(names) < N_PLLMS and all(len(name) == 16 for name in names)
        assert eight[0] == two[0]
