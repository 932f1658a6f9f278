"""The Python face of the native core, where the core itself is not needed: finding it, and what its statuses mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xpert.core import errors
from xpert.core.errors import MismatchError, MissingExtraError, UntrustedError, XpertError
from xpert_mobile.native_library import LIBRARY, VARIABLE, error_of, find_library, load_library


def test_the_library_is_found_where_it_was_built_last_or_where_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XPERT_TOOLS", str(tmp_path))
    with pytest.raises(MissingExtraError, match="taskw native"):
        find_library()
    own = tmp_path / "native-1" / "lib" / LIBRARY
    own.parent.mkdir(parents=True)
    own.write_bytes(b"no library")
    assert find_library() == own
    for given in (own, own.parent, own.parent.parent):
        monkeypatch.setenv(VARIABLE, str(given))
        assert find_library() == own
    with pytest.raises(MissingExtraError, match="Cannot load"):
        load_library(own)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(MissingExtraError, match="gone"):
        find_library()


def test_every_status_is_the_error_with_that_exit_code() -> None:
    assert type(error_of(5, "m")) is MismatchError
    assert type(error_of(14, "m")) is UntrustedError
    assert type(error_of(4, "m")) is errors.FileFormatError
    assert str(error_of(9, "what")) == "what"
    unknown = error_of(16, "closed")
    assert type(unknown) is XpertError
    assert "status 16" in str(unknown)


def test_the_runtime_loads_without_torch() -> None:
    code = "import sys, xpert_mobile.native; print([m for m in ('torch', 'transformers', 'executorch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
