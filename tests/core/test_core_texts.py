from __future__ import annotations

import json
from pathlib import Path

import pytest

from xpert.core import data
from xpert.core.errors import FileFormatError, InputError, NotFoundError
from xpert.core.texts import PersonalText, read_pairs, read_texts, warn_about

RECORDS = [{"text": "Half vinegar, half water.", "prompt": "How?"}, {"text": "Rinse, dry."}]


def test_all_formats_give_the_same_texts(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in RECORDS) + "\n\n")
    (tmp_path / "a.csv").write_text('text,prompt\n"Half vinegar, half water.",How?\n"Rinse, dry.",\n')
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    expected = [PersonalText("Half vinegar, half water.", "How?"), PersonalText("Rinse, dry.")]
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert read_texts(tmp_path / name) == expected
    (tmp_path / "a.txt").write_text("﻿Half vinegar, half water.\n\nRinse, dry.\n", encoding="utf-8")
    assert [t.text for t in read_texts(tmp_path / "a.txt")] == [t.text for t in expected]


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("a.jsonl", b'{"text": ""}\n{"prompt": "x"}', InputError, "line 1 has no text; line 2 has no text"),
        ("a.jsonl", b'{"text": "x", "prompt": 3}', InputError, "no text but int"),
        ("a.jsonl", b"[1]", InputError, "line 1 has no text"),
        ("a.jsonl", b"{", FileFormatError, "Line 1 .* not JSON"),
        ("a.jsonl", b"\n\n", InputError, "holds no texts"),
        ("a.txt", b"\xff\xfe\x00", FileFormatError, "UTF-8"),
        ("a.txt", b"x" * 1_000_000, InputError, "1,000,000 characters"),
        ("a.csv", b"a,b\n1,2\n", FileFormatError, "one named 'text'"),
        ("a.csv", b'text\n"open', FileFormatError, "CSV"),
        ("a.parquet", b"PAR1 nothing", FileFormatError, "Parquet"),
        ("a.doc", b"x", FileFormatError, "ends in '.doc'"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str, content: bytes, error: type, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        read_texts(tmp_path / name)


def test_many_problems_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n' * 9)
    with pytest.raises(InputError, match="and 4 more"):
        read_texts(tmp_path / "a.jsonl")


def test_missing_files(tmp_path: Path) -> None:
    for name in ("a.txt", "a.parquet"):
        with pytest.raises(NotFoundError):
            read_texts(tmp_path / name)


def test_parquet_needs_a_text_column(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FileFormatError, match="one named 'text'"):
        read_texts(tmp_path / "a.parquet")


def test_pairs(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "p", "base": "b", "pllm": "l"}\n')
    assert read_pairs(path)[0].pllm == "l"
    path.write_text('{"prompt": "p", "base": 1}\n')
    with pytest.raises(InputError, match="lacks text under base, pllm"):
        read_pairs(path)
    path.write_text("")
    with pytest.raises(InputError, match="no answer pairs"):
        read_pairs(path)


def test_warnings_name_few_short_and_foreign_texts() -> None:
    assert warn_about([PersonalText(t.text) for t in data.users()[:20]]) == []
    german = PersonalText("Der Himmel erscheint blau, weil kurzwelliges Licht stärker gestreut wird als langwelliges Licht.")
    warnings = " ".join(warn_about([PersonalText("ok"), german, german, german]))
    assert "4 texts are few" in warnings
    assert "1 of 4 texts have fewer than three words" in warnings
    assert "3 of 4 texts do not look like English" in warnings


def test_bundled_data_is_whole() -> None:
    assert len(data.stylebank()) == 160 * 13
    assert len(data.exemplars()) == 24 * 25
    assert {t.style for t in data.levels()} == {f"{d}-{i}" for d in ("expertise", "formality") for i in range(1, 5)}
    assert len(data.probes()) == 40
    assert len({u.user for u in data.users()}) == 10
    assert not {t.id for t in data.axis_texts()} & data.PROBE_PROMPTS
