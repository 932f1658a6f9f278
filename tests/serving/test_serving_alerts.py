"""The alerts: they ask for what is counted, each fires when it should, and a healthy site is silent (by promtool)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
import yaml
from documents import ROOT

from xpert_services.metering import METRICS

RULES = ROOT / "services" / "prometheus" / "rules.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
# What a healthy site sends for two hours, a value a minute: name and labels -> values in promtool's notation.
COUNT, BUCKET = "xpert_request_seconds_count", "xpert_request_seconds_bucket"
HEALTHY = {
    f'{COUNT}{{route="/v1/bases", status="200"}}': "0+6000x120",
    f'{BUCKET}{{route="/v1/bases", status="200", le="0.1"}}': "0+5990x120",
    f'{BUCKET}{{route="/v1/bases", status="200", le="30"}}': "0+6000x120",
    f'{BUCKET}{{route="/v1/bases", status="200", le="+Inf"}}': "0+6000x120",
    # A phone that watches a job, or loads a large file, is not slow.
    f'{BUCKET}{{route="/v1/jobs/{{id}}/events", status="200", le="0.1"}}': "0x120",
    f'{BUCKET}{{route="/v1/jobs/{{id}}/events", status="200", le="30"}}': "0+10x120",
    f'{BUCKET}{{route="/v1/jobs/{{id}}/events", status="200", le="+Inf"}}': "0+10x120",
    'xpert_jobs_open{kind="explain", state="running"}': "1x120",
    'xpert_jobs_open{kind="explain", state="queued"}': "1x120",
    'xpert_queue_seconds{kind="explain"}': "30x120",
    'xpert_jobs_ended_total{kind="explain", state="succeeded"}': "0+1x120",
    'xpert_jobs_ended_total{kind="explain", state="failed"}': "0x120",
    'xpert_jobs_ended_total{kind="explain", state="queued"}': "0x120",
    'xpert_catalogue_pllms{base="starter", space="s"}': "100x120",
}
# Alert -> what is otherwise when it fires; None: not sent.
SICK: dict[str, dict[str, str | None]] = {
    "XpertNotMeasured": {name: None for name in HEALTHY if name.startswith("xpert_jobs_open")},
    "XpertReplicaUnhealthy": {'serve_deployment_replica_healthy{deployment="explainer"}': "0x120"},
    "XpertErrors": {f'{COUNT}{{route="/v1/bases", status="500"}}': "0+120x120"},
    "XpertStoreRefuses": {f'{COUNT}{{route="/readyz", status="503"}}': "0+6x120"},
    "XpertSlow": {f'{BUCKET}{{route="/v1/bases", status="200", le="0.1"}}': "0+5000x120"},
    "XpertNobodyWorks": {
        'xpert_jobs_open{kind="explain", state="running"}': "0x120",
        'xpert_queue_seconds{kind="explain"}': "0+6x120",
    },
    "XpertQueueWaits": {'xpert_queue_seconds{kind="explain"}': "0+60x120"},
    "XpertJobsFail": {'xpert_jobs_ended_total{kind="explain", state="failed"}': "0+1x120"},
    "XpertJobsBeginAgain": {'xpert_jobs_ended_total{kind="explain", state="queued"}': "0+1x120"},
    "XpertTokensRefused": {f'{COUNT}{{route="none", status="401"}}': "0+120x120"},
    "XpertRateLimited": {f'{COUNT}{{route="/v1/bases", status="429"}}': "0+600x120"},
    "XpertCatalogueShrank": {'xpert_catalogue_pllms{base="starter", space="s"}': "100x90 30x30"},
}


def test_they_ask_only_for_what_is_counted() -> None:
    known = {metric.name + suffix: metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}
    for name, rule in ALERTS.items():
        asked = re.findall(r'__name__=~"\(ray\|local\)_(\w+)"((?:, \w+(?:=~|=|!~|!=)"[^"]*")*)', rule["expr"])
        assert len(asked) == len(re.findall("xpert_", rule["expr"])), name
        for metric, selectors in asked:
            labels = re.findall(r", (\w+)", selectors) + re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"])
            assert {label.strip() for each in labels for label in each.split(",")} <= {*known[metric].labels, "le"}, name


def test_the_operating_guide_says_what_to_do_about_each() -> None:
    rows = re.findall(r"^\| (Xpert\w+) \| (.+) \|$", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(ALERTS)
    assert set(SICK) == set(ALERTS)
    assert {rule["labels"]["severity"] for rule in ALERTS.values()} == {"critical", "warning"}


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["ray_", "local_"])
def test_each_fires_alone_when_it_should_and_a_healthy_site_is_silent(tmp_path: Path, prefix: str) -> None:
    prometheus_server.promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    sick = {name: changes for name, changes in SICK.items() if prefix == "ray_" or "Replica" not in name}
    cases = {"": {}, **sick}
    tests = [case(prefix, changes, fires=name) for name, changes in cases.items()]
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    prometheus_server.promtool("test", "rules", str(tmp_path / "tests.yaml"))


def case(prefix: str, changes: dict[str, str | None], *, fires: str) -> dict[str, Any]:
    series = {name: values for name, values in (HEALTHY | changes).items() if values}
    expected = [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else []
    asked = {"expr": 'max by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "110m", "exp_samples": expected}
    return {
        "name": fires or "healthy",
        "interval": "1m",
        "input_series": [{"series": prefix + name, "values": values} for name, values in series.items()],
        "promql_expr_test": [asked],
    }
