"""The alerts that a cluster gets: the server's as they are, and the operator's, which ring when they should."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
import yaml
from cluster_cases import K8S

pytestmark = pytest.mark.slow

SHARED = K8S / "overlays" / "shared"
LEADING = 'xpert_operator_leading{pod="%s"}'
LOOKS = 'xpert_operator_looks_total{result="%s"}'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "XpertOperatorNobodyWorks": ({LEADING % "a": "0x60", LEADING % "b": "0x60"}, {LEADING % "a": "1x60", LEADING % "b": "0x60"}),
    "XpertOperatorTwoWork": ({LEADING % "a": "1x60", LEADING % "b": "1x60"}, {LEADING % "a": "1x60", LEADING % "b": "0x60"}),
    "XpertOperatorFails": (
        {LOOKS % "failed": "0+6x60", LOOKS % "done": "0+3x60"},
        {LOOKS % "failed": "0+1x60", LOOKS % "done": "0+9x60"},
    ),
}


def rules() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SHARED / "operator-alerts.yaml").read_text())["spec"]
    return found


def test_the_servers_are_the_services() -> None:
    written = runpy.run_path(str(SHARED / "write_alerts.py"))["render"]()
    assert (SHARED / "server-alerts.yaml").read_text() == written, "Write it: ./taskw crds"


def test_the_operators_ring_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    known = {rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"]}
    assert set(known) == set(CASES)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    prometheus_server.promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))
    tests = []
    for alert, cases in CASES.items():
        for is_bad, series in zip((True, False), cases, strict=True):
            values = [{"series": name, "values": value} for name, value in series.items()]
            # What the alert says is for people; that it is there at all is asked by its metric.
            query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
            samples = [{"labels": "{}", "value": int(is_bad)}]
            asked = {"expr": query, "eval_time": "50m", "exp_samples": samples}
            tests.append({"interval": "1m", "input_series": values, "promql_expr_test": [asked]})
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    prometheus_server.promtool("test", "rules", str(tmp_path / "tests.yaml"))
