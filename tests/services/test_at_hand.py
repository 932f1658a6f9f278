"""The whole catalogue is answered from memory, as its route would answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_cases import BASE, Site, draft_of, explain_by_chance, site_at
from test_api import SPACE

from xpert_services.catalogue import catalogues
from xpert_services.metering import NOWHERE, REQUEST_SECONDS, Metric, send_to
from xpert_services.store import FolderObjects

PATH = f"/v1/catalogues/{BASE}"


def add(site: Site, name: str, folder: Path, *, seed: int) -> None:
    pllm, _, _ = site.services.pllms.register(draft_of(site.store, name))
    explain_by_chance(site.services, pllm, folder, seed=seed)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = site_at(tmp_path / "store").with_base()
    add(site, "one", tmp_path, seed=1)
    return site


class Counted:
    def __init__(self) -> None:
        self.routes: list[str] = []

    def record(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        if metric is REQUEST_SECONDS:
            self.routes.append(f"{labels['route']} {labels['status']}")


def test_it_is_what_the_route_answers(site: Site) -> None:
    client, meter = site.client("read"), Counted()
    tag = client.get(PATH).headers["etag"]
    send_to(meter)  # type: ignore[arg-type]
    try:
        for headers in ({}, {"if-none-match": tag}, {"if-none-match": f'"other", W/{tag}'}, {"if-none-match": '"other"'}):
            # A query goes to the route; this one asks for the same.
            near, route = (client.get(PATH, params=params, headers=headers) for params in ({}, {"space": SPACE}))
            assert (near.status_code, near.content) == (route.status_code, route.content)
            one, two = ({name: value for name, value in each.headers.items() if name != "x-request-id"} for each in (near, route))
            assert one == two
    finally:
        send_to(NOWHERE)
    assert meter.routes == [f"/v1/catalogues/{{base}} {status}" for status in (200, 200, 304, 304, 304, 304, 200, 200)]


def test_others_are_still_refused(site: Site) -> None:
    site.client("read").get(PATH)
    assert site.client(None).get(PATH).status_code == 401
    assert site.client("read").get(f"{PATH}-of-another").status_code == 404
    assert site.client("read").get(PATH, headers={"if-none-match": "x" * 3000}).status_code == 422
    assert site.client("read").get(PATH, headers={"accept": "application/json"}).json()["pllms"] == ["one"]
    assert site.client("read").post(PATH).status_code == 405


def test_the_store_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client("read")
    tag = client.get(PATH).headers["etag"]

    def fail(*_: object) -> None:
        raise AssertionError("The store was asked")

    monkeypatch.setattr(FolderObjects, "get", fail)
    assert client.get(PATH, headers={"if-none-match": tag}).status_code == 304


def test_a_change_by_another_process_is_seen_when_it_is_no_longer_fresh(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = site.client("read"), Site(site.store)
    monkeypatch.setattr(catalogues, "FRESH_S", 3600.0)
    first = client.get(PATH).headers["etag"]
    add(other, "two", tmp_path, seed=2)
    assert client.get(PATH).headers["etag"] == first
    # One's own change is seen at once.
    add(site, "three", tmp_path, seed=3)
    second = client.get(PATH).headers["etag"]
    assert second != first
    assert client.get(PATH, headers={"accept": "application/json"}).json()["pllms"] == ["one", "three", "two"]
    monkeypatch.setattr(catalogues, "FRESH_S", 0.0)
    site.services.catalogues.refresh(BASE, SPACE)
    add(other, "four", tmp_path, seed=4)
    assert client.get(PATH).headers["etag"] != second
