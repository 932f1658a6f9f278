"""Small bases with the starter's tokenizer, for the device runtimes and the native engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from model_cases import small_llama, small_qwen

from xpert.models.names import resolve

SIZES = {"vocab_size": 4112, "max_position_embeddings": 128}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def make_llama(folder: Path) -> Path:
    """A Llama with Llama 3's rotary scaling, in one file of float32."""
    small_llama(**SIZES, rope_parameters=dict(ROPE)).save_pretrained(folder)
    return _with_tokenizer(folder)


def make_qwen(folder: Path, *, half: bool = False, **saving: Any) -> Path:
    """A Qwen2, in ``half`` precision or float32, saved as ``saving`` says."""
    model = small_qwen(**SIZES)
    (model.half() if half else model).save_pretrained(folder, **saving)
    return _with_tokenizer(folder)


def _with_tokenizer(folder: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(resolve("starter:base") / name, folder / name)
    return folder
