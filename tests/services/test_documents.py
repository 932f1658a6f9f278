"""The server side's documents: what they show is run, what they list is complete, what they name is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import ROOT, blocks, run_in_order
from server_cases import serving

API = ROOT / "docs" / "api.md"


@pytest.mark.slow
def test_the_api_guide_is_a_session_that_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, said):
        (tmp_path / "admin-token").write_text(said[0].rsplit(" ", 1)[1])
        session = list(blocks(API))
        assert {block.language for block in session} == {"bash", "python"}
        printed = run_in_order(session, folder=tmp_path, replaced={"https://xpert.example.org": url})
    missing = {block.line: told for block in session if (told := block.unprinted(printed[block.line]))}
    assert missing == {}, printed
    assert sum(len(block.expected) for block in session) > 15
