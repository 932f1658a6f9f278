"""Good files of every parser of the native core, which fuzzing starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells_cases import evenly, whole_of
from native_cases import Surface

from xpert.core.cutting import cut
from xpert.core.data import axis_texts
from xpert.core.files import write_safetensors
from xpert.core.space import build_space
from xpert.models.names import resolve


def fuzz_seeds(folder: Path, bundle: Path) -> dict[str, list[Path]]:
    """Write into ``folder`` what no bundle has; return the files of every target of mobile/native/fuzz."""
    build_space(axis_texts(), Surface(), name="small", sentence_weight=1e-7).save(folder / "space")
    cells = cut(whole_of(600), evenly)
    named = cells.named(f"{cells.digest[:16]}-0")
    (folder / "cell").write_bytes(named)
    (folder / "pair").write_bytes(len(cells.index).to_bytes(2, "little") + cells.index + named)
    write_safetensors(folder / "arrays", {"a": np.ones((2, 3), np.float32), "b": np.arange(5)}, {"format": "pt"})
    base = resolve("starter:base")
    return {
        "choice_files": [folder / "space", folder / "cell", folder / "pair"],
        "manifest": [bundle / "manifest.json"],
        "safetensors": [folder / "arrays", folder / "space"],
        "tokenizer": [base / "tokenizer.json", base / "chat_template.jinja"],
    }
