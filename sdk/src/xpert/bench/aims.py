"""Every published figure beside its aim: met or not, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a benchmark's figure should be.

    Attributes
    ----------
    benchmark, path
        Where the figure stands: the benchmark's name and the keys into its record.
    value
        The aim; at least, or at most where ``at_most`` is set.
    paper
        The paper's figure, where it has one of the kind.
    """

    benchmark: str
    path: tuple[str, ...]
    value: float
    at_most: bool = False
    paper: float | None = None

    def met(self, found: float) -> bool:
        """Tell whether a figure meets the aim, both in hundredths as they are printed."""
        shown = round(found, 2)
        return shown <= self.value if self.at_most else shown >= self.value


PAPER: Mapping[str, float] = {"30": 0.25, "50": 0.536, "70": 0.857, "80": 0.964, "90": 0.964}
"""Selection accuracy by similarity in the paper, among 28 candidates, synthetic data, Llama-3.2-1B."""


def _selection() -> list[Aim]:
    root = ("methods", "coefficients")
    floors: dict[str, dict[str, float]] = {
        "paired": {"5": 0.92, "10": 0.98},
        "unpaired": {"5": 0.86, "10": 0.94, "50": 0.99},
        "similarity": {"30": 0.78, "50": 0.95, "70": 0.99, "80": 0.99, "90": 0.99},
        "similarity_unpaired": {"30": 0.70, "50": 0.89, "70": 0.97, "80": 0.99, "90": 0.99},
    }
    return [
        Aim(benchmark="selection", path=(*root, group, key), value=value, paper=PAPER.get(key) if "sim" in group else None)
        for group, row in floors.items()
        for key, value in row.items()
    ]


LARGE = ("100000", "1000000")
"""Catalogues that are cut into cells."""

LOST = ("right_pllm_lost_points", "right_style_lost_points", "closeness_lost_points")
"""What a cell may lose against the whole catalogue: at every similarity, as in a mean a gain hides a loss."""

SERVED: Mapping[str, Mapping[str, float]] = {
    "embedded": {"unchanged": 0.25, "full": 0.25, "mixed": 0.05},
    "ray 1": {"unchanged": 0.03, "full": 0.03},
    "ray 2": {"unchanged": 0.03, "full": 0.03},
    "ray 1 haproxy": {"unchanged": 0.1, "full": 0.1},
    "ray 2 haproxy": {"unchanged": 0.1, "full": 0.1},
}
"""Throughput against plain uvicorn with the same bytes. An app that does nothing on Ray Serve has 1/9 to 1/46 of it, 1/2 to 1/5
in HAProxy mode; ours shall take no more than half of that away."""

NEVER = (("failed_requests",), ("jobs", "lost"), ("jobs", "doubled"), ("store", "problems"))
"""What must not happen while parts of a site are killed."""

AIMS: tuple[Aim, ...] = (
    *_selection(),
    *(
        Aim(benchmark="selection-28", path=("methods", "coefficients", "similarity", key), value=value, paper=value)
        for key, value in PAPER.items()
    ),
    Aim(benchmark="selection-28", path=("calibration_error",), value=0.05, at_most=True),
    Aim(benchmark="selection-speed", path=("seconds", "torch"), value=2.0, at_most=True),
    Aim(benchmark="selection-speed", path=("seconds", "executorch"), value=2.0, at_most=True),
    Aim(benchmark="selection-speed", path=("agreement",), value=1.0),
    Aim(benchmark="starter-selection", path=("methods", "coefficients", "unpaired", "20"), value=0.95),
    Aim(benchmark="explain-many", path=("speedup",), value=5.0),
    *(
        Aim(benchmark="personalize", path=("step", model, key), value=value, at_most=True)
        for model in ("starter", "smollm2-135m")
        for key, value in (("ms_ratio", 1.0), ("peak_mb_ratio", 0.25), ("model_mb_ratio", 0.25))
    ),
    *(Aim(benchmark="catalogue-scale", path=("sizes", n, "cell_bytes"), value=65536, at_most=True) for n in LARGE),
    *(
        Aim(benchmark="catalogue-scale", path=("sizes", n, "similarity", key, lost), value=1.0, at_most=True)
        for n in LARGE
        for lost in LOST
        for key in PAPER
    ),
    *(
        Aim(benchmark="catalogue-scale", path=("sizes", n, "similarity", key, "as_good"), value=0.99)
        for n in LARGE
        for key in PAPER
    ),
    *(
        Aim(benchmark="serve", path=("forms", form, load, "throughput_ratio"), value=value)
        for form, loads in SERVED.items()
        for load, value in loads.items()
    ),
    *(Aim(benchmark="serve", path=("memory", form, "growth"), value=0.1, at_most=True) for form in ("embedded", "ray 1")),
    Aim(benchmark="serve", path=("explaining", "speedup", "16"), value=3.0),
    Aim(benchmark="serve", path=("failed",), value=0.0, at_most=True),
    *(
        Aim(benchmark="native", path=("models", model, precision + stored, kind + key), value=value, at_most=True)
        for model in ("starter", "smollm-360m", "qwen2-0.5b", "llama-3.2-1b")
        for precision in ("float32", "int8")
        for stored, longest in (("", 1.2), ("-transposed", 1.0))
        # With what layers computed kept where there is room, and with none of it kept, as measure_native.py says.
        for kind in ("", "least_")
        for key, value in (("step_ratio", longest), ("memory_ratio", 0.1))
    ),
    Aim(benchmark="native", path=("choice", "seconds"), value=2.0, at_most=True),
    # What client-go's leader election waits for by default.
    Aim(benchmark="operator-failover", path=("longest_s",), value=15.0, at_most=True),
    *(Aim(benchmark="chaos", path=path, value=0.0, at_most=True) for path in NEVER),
    *(Aim(benchmark="personalize", path=("summary", key, "time_saved"), value=0.0) for key in ("90", "70", "50")),
)


def lookup(record: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    """Return the figure at ``path`` in a benchmark's record, or None where there is none."""
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return float(value)


Row = tuple[str, float, str, str, float | None]


def rows(record: Mapping[str, Any]) -> list[Row]:
    """Lay out a record's figures that have an aim: name, figure, aim, verdict, the paper's figure."""
    out: list[Row] = []
    for aim in AIMS:
        found = lookup(record, aim.path) if aim.benchmark == record.get("benchmark") else None
        if found is not None:
            goal = f"{'at most' if aim.at_most else 'at least'} {aim.value:g}"
            name = " ".join(aim.path[1:] if len(aim.path) > 3 else aim.path)
            out.append((name, round(found, 2), goal, "met" if aim.met(found) else "NOT met", aim.paper))
    return [*out, *_users(record)]


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """Write all figures that have an aim as one Markdown page."""
    lines = ["# Figures", "", "Every figure with an aim, from the records in `tests/benchmarks`; this page is what"]
    lines += ["`xpert bench report --markdown` prints, and a test holds it to the records.", ""]
    for record in records:
        hardware = record["hardware"]
        lines += [f"## {record['benchmark']}", ""]
        lines += [f"{record['date']}, commit {record['commit']}, {hardware['processor']}, {hardware['cores']} cores.", ""]
        lines += ["| figure | found | aim | verdict | paper |", "|---|---|---|---|---|"]
        lines += [f"| {n} | {f:g} | {a} | {v} | {'' if p is None else f'{p:g}'} |" for n, f, a, v, p in rows(record)]
        lines += [""]
    return "\n".join(lines)


def _users(record: Mapping[str, Any]) -> list[Row]:
    if record.get("benchmark") != "users" or not record.get("bundled"):
        return []  # other people's users have no known styles
    out: list[Row] = []
    for user, row in record["users"].items():
        style = EXAMPLE_USERS.get(user)
        first = row["draws"]["first"]
        abstains = row["draws"]["abstain"]
        if style is None:
            verdict = "met" if abstains >= 0.95 and row["abstain"] else "NOT met"
            out.append((f"{user} abstains", abstains, "at least 0.95", verdict, None))
            continue
        share = round(sum(first.get(name, 0.0) for name in style), 3)
        out.append((f"{user} {' or '.join(style)} first", share, "at least 0.95", "met" if share >= 0.95 else "NOT met", None))
        verdict = "met" if abstains <= 0.05 and not row["abstain"] else "NOT met"
        out.append((f"{user} abstains", abstains, "at most 0.05", verdict, None))
    return out


EXAMPLE_USERS: Mapping[str, tuple[str, ...] | None] = {
    "u01": ("concise",),
    "u02": ("poetic",),
    "u03": ("shakespearean",),
    "u04": ("sarcastic",),
    "u05": ("elementary",),
    "u06": ("expert",),
    "u07": ("formal",),
    "u08": ("tweet",),
    "u09": ("friendly", "informative"),
    "u10": None,
}
"""The example users' styles, as they were written; two where either is right."""
