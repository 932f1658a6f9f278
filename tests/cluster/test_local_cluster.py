"""`./taskw cluster`: from nothing to samples that are all ready, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_cases import ROOT

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-W", "ignore", str(ROOT / "tests" / "tools" / "local_cluster.py"))


def started(temporary: Path, *options: str) -> subprocess.Popen[str]:
    paths = [str(ROOT / "tests" / name) for name in ("cluster", "services")]
    environment = {**os.environ, "PYTHONPATH": ":".join(paths), "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, process_group=0
    )


def living(temporary: Path) -> list[str]:
    """Processes that were started with something of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(temporary) in command:
            found.append(command)
    return found


def test_all_samples_become_ready(tmp_path: Path) -> None:
    process = started(tmp_path, "--once")
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    rows = printed[printed.index("NAME ") :].splitlines()
    assert rows[0].split() == ["NAME", "BASE", "WORDS", "STRENGTH", "PUBLISHED", "READY", "AGE"]
    table = {row.split()[0]: row for row in rows[1:] if " starter " in row}
    assert set(table) == {"concise", "poetic", "formal", "concise-poetic"}
    for name, row in table.items():
        assert re.search(r"[a-z]+ -?\d\.\d\d, .* True +True ", row), row
        assert f"PersonalizedLLM {name}: Ready." in printed
    assert " starter   poetic " in table["poetic"]
    assert not living(tmp_path) and not list(tmp_path.glob("xpert-cluster-*"))


def test_control_c_ends_all_in_order(tmp_path: Path, interruptible: None) -> None:
    """The terminal sends it to the whole group, the database and the API server included."""
    process = started(tmp_path)
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "kubectl apply -k" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    lines.append(process.stdout.read())
    process.stdout.close()
    assert process.wait() == 130, "".join(lines)
    assert "everything has ended" in lines[-1] and "Traceback" not in lines[-1]
    assert not living(tmp_path) and not list(tmp_path.glob("xpert-cluster-*"))
