"""A span for every job, in the trace of the request that asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xpert_services import tracing
from xpert_services.jobs.leases import Lease


@contextmanager
def traced(leases: Sequence[Lease]) -> Iterator[None]:
    """Record the work of the block, on jobs that are done together."""
    if not tracing.is_on():
        yield
        return
    with tracing.together(f"job {leases[0].job.kind}", [lease.job.trace for lease in leases]) as spans:
        try:
            yield
        finally:
            for span, lease in zip(spans, leases, strict=True):
                span.set_attributes(
                    {"xpert.job": lease.id, "xpert.job.state": lease.left, "xpert.job.attempt": lease.job.attempts}
                )
                if lease.left == "failed":
                    tracing.fail(span, lease.left)
