"""Metrics of the embedded form, served to Prometheus by this process on a port of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from xpert_services import metering
from xpert_services.metering import Metric

LOOPBACK = "127.0.0.1"
PREFIX = "local_"
"""Before every name, as Ray puts ``ray_`` there: the dashboard lets one choose."""


class PrometheusMeter:
    """Keeps numbers for Prometheus to fetch.

    Parameters
    ----------
    registry
        Where they are kept.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._lock = threading.Lock()

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Keep a number."""
        made = self._get(metric)
        child = made.labels(**labels) if metric.labels else made
        if isinstance(child, Counter):
            child.inc(value)
        elif isinstance(child, Gauge):
            child.set(value)
        else:
            child.observe(value)

    def _get(self, metric: Metric) -> Counter | Gauge | Histogram:
        with self._lock:
            if metric.name not in self._made:
                self._made[metric.name] = self._make(metric)
            return self._made[metric.name]

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        told = (PREFIX + metric.name, metric.about, metric.labels)
        if metric.kind == "counter":
            return Counter(*told, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(*told, registry=self._registry)
        return Histogram(*told, registry=self._registry, buckets=metric.buckets)


@contextmanager
def exposed(port: int | None) -> Iterator[int | None]:
    """Serve this process's metrics at ``/metrics`` on the loopback address while the block runs; no port: keep none.

    They name routes, bases and counts, so they are not for everyone who reaches the API. Port 0 takes a free one.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    metering.send_to(PrometheusMeter(registry))
    try:
        yield server.server_port
    finally:
        metering.send_to(metering.NOWHERE)
        server.shutdown()
        server.server_close()
        thread.join()
