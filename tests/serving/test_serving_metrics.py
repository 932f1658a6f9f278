"""Metrics: counted where it happens, with the labels that the dashboard asks for; each of its queries has something to show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
import yaml
from api_cases import Site as LocalSite
from serving_cases import BASE, Site, free_port, scrape, wait_for

import xpert_services
from xpert_services.exposing import exposed
from xpert_services.jobs import JobRequest, Lease, Worker
from xpert_services.metering import METRICS
from xpert_services.sampling import Sampler
from xpert_services.store import open_store

DASHBOARD = Path(xpert_services.__file__).parent / "grafana" / "xpert.json"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NAME = re.compile(r"(?<![\w$])(?:\$\{prefix\}|ray_)\w+")
LABELS = re.compile(r"by \(([^)]*)\)|\{(\w+)(?:=|!=|=~|!~)")


def queries() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_the_dashboard_asks_only_for_what_is_counted() -> None:
    known = {"${prefix}" + metric.name + suffix: metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}
    asked = set()
    for query in queries():
        names = NAME.findall(query)
        assert names, query
        own = [known[name] for name in names if name != "ray_serve_deployment_replica_healthy"]
        asked |= {metric.name for metric in own}
        labels = {label.strip() for group, one in LABELS.findall(query) for label in (group or one).split(",")}
        for metric in own:
            assert labels <= {*metric.labels, "le"}, query
    assert asked == {metric.name for metric in METRICS}


def test_the_embedded_form_serves_what_it_counts(tmp_path: Path) -> None:
    def end(leases: list[Lease]) -> None:
        for lease in leases:
            lease.succeed({})

    with exposed(0) as port:
        site = LocalSite(open_store(tmp_path))
        client = site.client("read")
        assert client.get("/v1/jobs").status_code == 200
        assert client.get("/v1/nothing/of/the/kind").status_code == 404
        site.services.jobs.submit(JobRequest(kind="merge", subject="one", inputs={"one": 1}))
        site.services.jobs.submit(JobRequest(kind="explain", subject="two", inputs={"two": 2}))
        assert Worker(site.services.jobs, {"merge": end}).step()  # type: ignore[dict-item]
        Sampler(site.services).look()
        found = scrape(f"http://127.0.0.1:{port}/metrics")
    seen = {(labels["route"], labels["status"]): value for labels, value in found["local_xpert_request_seconds_count"]}
    assert seen == {("/v1/jobs", "200"): 1, ("none", "404"): 1}
    assert found["local_xpert_jobs_ended_total"] == [({"kind": "merge", "state": "succeeded"}, 1)]
    assert found["local_xpert_job_seconds_count"] == [({"kind": "merge"}, 1)]
    open_jobs = {(labels["kind"], labels["state"]): value for labels, value in found["local_xpert_jobs_open"]}
    none = {(kind, state): 0 for kind in ("explain", "merge", "space") for state in ("queued", "running")}
    assert open_jobs == {**none, ("explain", "queued"): 1}
    waited = {labels["kind"]: value for labels, value in found["local_xpert_queue_seconds"]}
    assert waited["merge"] == 0 < waited["explain"]


def unanswered(folder: Path, scrapes: str | list[dict[str, Any]], prefix: str, asked: Iterable[str]) -> set[str]:
    """Ask a real Prometheus until it has something to show for each query; returns those for which it never has."""
    left = {query: query.replace("${prefix}", prefix).replace("$__rate_interval", "1m") for query in asked}
    with prometheus_server.running(folder, port=free_port(), scrapes=scrapes) as prometheus:

        def look() -> bool:
            for query in [query for query, full in left.items() if prometheus.query(full)]:
                del left[query]
            return not left

        # A rate needs two looks at a series, and Ray shows a new one some seconds after it was counted.
        with suppress(AssertionError):
            wait_for(look)
    return set(left)


@pytest.mark.slow
def test_a_real_prometheus_answers_the_dashboard_about_the_embedded_form(tmp_path: Path) -> None:
    with exposed(0) as port:
        for metric in METRICS:
            for outcome in ("hit", "miss"):
                metric.record(1.0, **{label: outcome if label == "outcome" else "one" for label in metric.labels})
        own = [query for query in queries() if "${prefix}" in query]
        assert unanswered(tmp_path, f"127.0.0.1:{port}", "local_", own) == set()


@pytest.mark.slow
def test_every_query_of_the_dashboard_has_something_to_show_on_ray(published: Site) -> None:
    assert published.client.get(f"/v1/catalogues/{BASE}").status_code == 200
    asked = {name.replace("${prefix}", "ray_") for query in queries() for name in NAME.findall(query)}
    # Replicas look at the store, and Ray collects from them, every some seconds.
    wait_for(lambda: asked <= scrape(published.addresses["metrics"]).keys())
    found = scrape(published.addresses["metrics"])
    tokens = sum(value for _, value in found["ray_xpert_probe_tokens_total"])
    assert tokens > 100
    assert {labels["replica"] for labels, _ in found["ray_xpert_jobs_open"]}
    routes = {labels["route"] for labels, _ in found["ray_xpert_request_seconds_count"]}
    assert "/v1/catalogues/{base}" in routes


@pytest.mark.slow
def test_a_real_prometheus_answers_the_dashboard_about_ray(published: Site, tmp_path: Path) -> None:
    # The second time, a replica has it: a cache that was never hit would have no such series.
    for _ in range(4):
        assert published.client.get(f"/v1/catalogues/{BASE}").status_code == 200
    # As Ray writes it for whoever starts one: all nodes, and whatever else exports numbers, by a file that Ray keeps.
    written = yaml.safe_load(Path(published.addresses["prometheus_settings"]).read_text())
    assert unanswered(tmp_path, written["scrape_configs"], "ray_", queries()) == set()


@pytest.mark.slow
def test_a_grafana_of_rays_settings_has_our_dashboard_beside_rays(site: Site) -> None:
    grafana = Path(site.addresses["grafana_settings"])
    assert f"provisioning = {grafana.parent / 'provisioning'}" in grafana.read_text()
    (provider,) = yaml.safe_load((grafana.parent / "provisioning" / "dashboards" / "default.yml").read_text())["providers"]
    found = {path.name: path.read_bytes() for path in Path(provider["options"]["path"]).iterdir()}
    assert found["xpert.json"] == DASHBOARD.read_bytes()
    assert "serve_grafana_dashboard.json" in found
