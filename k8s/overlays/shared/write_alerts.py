"""``python k8s/overlays/shared/write_alerts.py`` writes server-alerts.yaml from the server's rules (``./taskw crds``)."""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "services" / "prometheus" / "rules.yaml"
HEAD = "# Written by ./taskw crds from services/prometheus/rules.yaml. Do not edit.\n"


def render() -> str:
    """Return the file."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "xpert-server", "namespace": "xpert"},
        "spec": yaml.safe_load(RULES.read_text(encoding="utf-8")),
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    (HERE / "server-alerts.yaml").write_text(render(), encoding="utf-8")
