"""The site on a real Ray: publish, explain, merge, choose; faults; what listens where."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx2
import psutil
import pytest
from serving_cases import BASE, Site, wait_for

from xpert.core.errors import ConflictError
from xpert_services.serving import background

pytestmark = pytest.mark.slow

EXPLAINER = "ServeReplica:xpert:explainer"


def test_publishing_leads_to_a_catalogue(published: Site) -> None:
    answer = published.client.get(f"/v1/catalogues/{BASE}")
    assert answer.status_code == 200
    assert len(answer.content) > 1000
    again = published.client.get(f"/v1/catalogues/{BASE}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    words = published.client.get(f"/v1/pllms/{BASE}/concise").json()["explanation"]["words"]
    assert len(words) == 24


def test_a_merge_is_made_and_explained(published: Site) -> None:
    sources = [{"pllm": "concise", "weight": 0.5}, {"pllm": "poetic", "weight": 0.5}]
    job = published.client.post("/v1/merges", json={"name": "mixed", "base": BASE, "sources": sources}).json()["id"]
    done = published.watch(job)
    assert done["state"] == "succeeded"
    assert published.watch(done["result"]["job"])["state"] == "succeeded"
    asked = {"url": f"/v1/catalogues/{BASE}", "headers": {"accept": "application/json"}}
    # The gateway may still serve what it saw less than a second ago.
    wait_for(lambda: published.client.get(**asked).json()["pllms"] == ["concise", "mixed", "poetic"])


def test_an_explainer_that_is_killed_loses_nothing(published: Site) -> None:
    replicas = {each.pid for each in published.processes(EXPLAINER)}
    assert len(replicas) == 2
    job = published.publish("sarcastic")
    published.watch(job, until=lambda seen: seen["state"] == "running")
    # Only one of them has something to do.
    victim = max(published.processes(EXPLAINER), key=lambda each: float(each.cpu_percent(interval=0.3)))
    victim.kill()
    done = published.watch(job)
    # The first attempt was under way when its process was killed.
    assert (done["state"], done["attempts"]) == ("succeeded", 2)
    assert published.client.get(f"/v1/pllms/{BASE}/sarcastic").json()["explanation"]["words"]
    assert not psutil.pid_exists(victim.pid)
    wait_for(lambda: any(line.get("job") == job for line in published.logged()))
    assert [line["state"] for line in published.logged() if line.get("job") == job] == ["succeeded"]


def test_the_log_tells_requests_by_their_id(published: Site) -> None:
    answer = published.client.get("/version", headers={"x-request-id": "a-request-of-a-test"})
    assert answer.headers.get_list("x-request-id") == ["a-request-of-a-test"]
    wait_for(lambda: any(line.get("request_id") == "a-request-of-a-test" for line in published.logged()))


def test_everything_listens_on_the_loopback_address_alone(site: Site) -> None:
    found = {
        (each.name(), connection.laddr.ip)
        for each in site.processes()
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address for _, address in found} <= {"127.0.0.1", "::ffff:127.0.0.1"}, found


def test_the_dashboard_wants_the_token(site: Site) -> None:
    address = f"{site.addresses['dashboard']}/api/serve/applications/"
    assert httpx2.get(address).status_code == 401
    assert httpx2.get(address, headers={"authorization": "Bearer " + "0" * 64}).status_code in (401, 403)
    token = Path(site.addresses["dashboard_token_file"]).read_text()
    seen = httpx2.get(address, headers={"authorization": f"Bearer {token}"}).raise_for_status().json()
    assert set(seen["applications"]["xpert"]["deployments"]) == {"gateway", "explainer", "merger"}
    # What Ray shows of the site holds no secret.
    admin = Path(site.addresses["admin_token_file"]).read_text().strip()
    assert admin not in str(seen)


def test_only_their_owner_reads_the_tokens(site: Site) -> None:
    for name in ("dashboard_token_file", "admin_token_file"):
        assert stat.S_IMODE(Path(site.addresses[name]).stat().st_mode) == 0o600


def test_a_site_is_started_once(site: Site) -> None:
    with pytest.raises(ConflictError, match="taskw down"):
        background.up(site.folder, ["--store", str(site.folder / "store")])
