"""Metrics that Ray collects from all replicas and serves to Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ray.serve import metrics

from xpert_services.metering import Metric


class RayMeter:
    """Sends numbers to Ray, which adds deployment and replica."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Send a number."""
        made = self._get(metric)
        if metric.kind == "counter":
            made.inc(value, tags=dict(labels))
        elif metric.kind == "gauge":
            made.set(value, tags=dict(labels))
        else:
            made.observe(value, tags=dict(labels))

    def _get(self, metric: Metric) -> Any:
        with self._lock:
            if metric.name not in self._made:
                told: dict[str, Any] = {"description": metric.about, "tag_keys": metric.labels}
                if metric.kind == "counter":
                    self._made[metric.name] = metrics.Counter(metric.name, **told)
                elif metric.kind == "gauge":
                    self._made[metric.name] = metrics.Gauge(metric.name, **told)
                else:
                    self._made[metric.name] = metrics.Histogram(metric.name, boundaries=list(metric.buckets), **told)
            return self._made[metric.name]
