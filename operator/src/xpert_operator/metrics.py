"""What the operator counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LOOKS = Histogram("xpert_operator_look_seconds", "Time to look at a resource once", ["kind"])
RESULTS = Counter("xpert_operator_looks", "Looks by how they ended", ["kind", "result"])
STEPS = Counter("xpert_operator_steps", "Steps taken, by kind of step and error code", ["step", "result"])
HELD = Gauge("xpert_operator_resources", "Resources that are watched")
WAITING = Gauge("xpert_operator_queue", "Resources that wait to be looked at, or for their time")
LEADING = Gauge("xpert_operator_leading", "1 where this replica works, 0 where it stands by")
