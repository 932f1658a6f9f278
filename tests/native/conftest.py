from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from native_cases import Native, tool

# Needs a cross compiler and an emulator, which nothing else here does: ./taskw mobile:arm64 names the file, and so runs it.
collect_ignore = ["test_native_arm64.py"]


@pytest.fixture(scope="session")
def native() -> Iterator[Native]:
    """The native core, built where it is missing (./taskw native does that before)."""
    found = Native(tool("build").Build(tests=True).build())
    yield found
    found.close()


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """A bundle of two layers with programs of rank 4 for texts of 32 tokens, without an encoder."""
    from base_cases import make_llama

    from xpert_mobile.bundle.making import BundleOptions, export_bundle

    folder = tmp_path_factory.mktemp("small")
    options = BundleOptions(rank=4, batch=2, lengths=(32,), generate=32)
    return export_bundle(
        make_llama(folder / "base"), folder / "small.xpert", options=options, with_encoder=False, cache=programs
    ).folder
