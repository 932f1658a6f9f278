"""What the tests of several folders share."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from xpert.core.files import tools_folder, write_atomic

EXPORTER = Path(__file__).parents[1] / "mobile" / "src" / "xpert_mobile"
MADE_BY = (
    "encoder_export.py",
    "engine.py",
    "export.py",
    "export_cache.py",
    "export_head.py",
    "geometry.py",
    "layers.py",
    "lowering.py",
    "rotary.py",
)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache folder with the exported programs of earlier runs, which lie under XPERT_TOOLS by the digest of what exports them.

    A program takes up to a minute to export: a run of all tests would spend most of its time on the same few.
    """
    made_by = hashlib.sha256(f"{version('torch')} {version('torchao')} {version('executorch')}".encode())
    for name in MADE_BY:
        made_by.update((EXPORTER / name).read_bytes())
    kept = tools_folder() / f"programs-{made_by.hexdigest()[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("programs")
    for program in kept.glob("*.pte"):
        shutil.copyfile(program, folder / program.name)
    yield folder
    for program in folder.glob("*.pte"):
        if not (kept / program.name).exists():
            write_atomic(kept / program.name, program.read_bytes())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let this process and those it starts hear SIGINT: a shell that runs the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
