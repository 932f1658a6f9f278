"""The load tests' own parts, and a small storm: about a minute on a real Ray and a real S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import plain
import pytest
import sites
import traffic
from vegeta import Load, attack, read_report

FOLDER = Path(__file__).parent
NEEDED = ("load", "services", "serving", "tools")


def test_a_report_is_read() -> None:
    load = read_report(
        {
            "latencies": {"50th": 1_500_000, "99th": 20_000_000},
            "duration": 1_500_000_000,
            "wait": 500_000_000,
            "requests": 100,
            "status_codes": {"0": 1, "200": 90, "304": 5, "503": 4},
            "errors": ["refused"],
        }
    )
    assert load == Load(100, {"200": 90, "304": 5, "503": 4}, 50.0, 1.5, 20.0, ("refused",))
    # One had no answer, four another one.
    assert load.failed(*traffic.GOOD) == 5


def test_the_mix_is_what_it_says(tmp_path: Path) -> None:
    filled = sites.fill(tmp_path / "store", n_pllms=8, seed=1)
    with sites.embedded(filled, tmp_path / "site") as address:
        loads = traffic.targets_of(address, filled)
        assert len(loads["mixed"]) == sum(traffic.MIX.values())
        plain.record([target for targets in loads.values() for target in targets], tmp_path / "recorded.json")
        with sites.plain(tmp_path / "recorded.json") as other, httpx2.Client() as client:
            for target in loads["mixed"]:
                same = traffic.at(target, address, other)
                one, two = (client.get(each.url, headers=dict(each.headers)) for each in (target, same))
                assert (one.status_code, one.content, one.headers.get("etag")) == (
                    two.status_code,
                    two.content,
                    two.headers.get("etag"),
                )
            load = attack(loads["mixed"], seconds=1, connections=4)
    assert load.failed(*traffic.GOOD) == 0
    assert set(load.statuses) == set(traffic.GOOD)


test_the_mix_is_what_it_says = pytest.mark.slow(test_the_mix_is_what_it_says)


@pytest.mark.slow
def test_a_small_storm_loses_nothing(tmp_path: Path) -> None:
    faults = ["gateway", "explainer", "store"]
    command = [sys.executable, "-W", "ignore", str(FOLDER / "chaos.py"), "--rounds", "1", "--pause", "3", "--seed", "7"]
    # As ./taskw chaos runs it; what it shakes and who visits have imports of their own.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(FOLDER.parent / name) for name in NEEDED)}
    done = subprocess.run(
        [*command, "--write", str(tmp_path), "--faults", *faults], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "chaos.json").read_text())
    assert json.loads(done.stdout) == record
    assert set(record["faults"]) == {f"{n + 1} {name}" for n, name in enumerate(faults)}
    assert record["failed_requests"] == record["jobs"]["lost"] == record["jobs"]["doubled"] == record["store"]["problems"] == 0
    # It was used all the time.
    assert record["jobs"]["asked"] >= 3
    assert record["requests"]["calls"] > 20
