"""What is counted: the site's metrics, and where they go.

The plain classes count by the metrics below. Where the numbers go is the process's choice (`send_to`): to Ray in the deployments,
to ``/metrics`` in the embedded form, nowhere by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class Meter(Protocol):
    """Where numbers go."""

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Take a number: an amount to add, a value that holds from now on, or an observation."""


class _Nowhere:
    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        return


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name
        With its unit and without what an exporter adds (``ray_`` before it, ``_total``, ``_bucket`` after it).
    kind
        Which sort of number.
    about
        What it says.
    labels
        By what it is told apart; each has few values.
    buckets
        Upper bounds, for a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def record(self, value: float = 1.0, **labels: str) -> None:
        """Send a number on."""
        _meter[0].record(self, value, labels)


NOWHERE: Meter = _Nowhere()
_meter = [NOWHERE]

REQUEST_SECONDS = Metric(
    "xpert_request_seconds", "histogram", "Seconds until an answer was sent.", ("method", "route", "status"), SECONDS
)
JOBS_ENDED = Metric("xpert_jobs_ended", "counter", "Attempts at jobs, by how they ended.", ("kind", "state"))
JOB_SECONDS = Metric("xpert_job_seconds", "histogram", "Seconds of work on jobs taken together.", ("kind",), LONG_SECONDS)
JOBS_OPEN = Metric("xpert_jobs_open", "gauge", "Jobs that wait or are worked on.", ("kind", "state"))
QUEUE_SECONDS = Metric("xpert_queue_seconds", "gauge", "How long the oldest waiting job has been due.", ("kind",))
PROBE_TOKENS = Metric("xpert_probe_tokens", "counter", "Tokens of answers to probes that were generated.")
PROBE_SECONDS = Metric("xpert_probe_seconds", "counter", "Seconds spent on answering probes and explaining the answers.")
CACHE = Metric("xpert_cache", "counter", "Look-ups in a cache.", ("cache", "outcome"))
CATALOGUE_PLLMS = Metric("xpert_catalogue_pllms", "gauge", "pLLMs in a catalogue.", ("base", "space"))
CATALOGUE_BYTES = Metric("xpert_catalogue_bytes", "gauge", "Bytes of a catalogue's compact form.", ("base", "space"))

METRICS = (
    REQUEST_SECONDS,
    JOBS_ENDED,
    JOB_SECONDS,
    JOBS_OPEN,
    QUEUE_SECONDS,
    PROBE_TOKENS,
    PROBE_SECONDS,
    CACHE,
    CATALOGUE_PLLMS,
    CATALOGUE_BYTES,
)


def send_to(meter: Meter) -> None:
    """Let this process's numbers go to ``meter`` from now on."""
    _meter[0] = meter
