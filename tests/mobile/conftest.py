"""Small checkpoints in the real format, with shapes that differ in what matters for export."""

from __future__ import annotations

from pathlib import Path

import pytest
from base_cases import make_llama, make_qwen


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen(tmp_path_factory.mktemp("qwen"), half=True, max_shard_size="150KB")


@pytest.fixture(scope="session")
def cache(programs: Path) -> Path:
    return programs
