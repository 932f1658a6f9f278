"""A run's state on disk: written whole or not at all, and not taken up again when a bit of it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError
from xpert.core.files import Tensors, read_safetensors, write_safetensors


def write_checkpoint(path: Path, arrays: Tensors, numbers: Mapping[str, Any]) -> None:
    """Write arrays and what belongs to them, as JSON; where that fails, the checkpoint before stays.

    Raises
    ------
    StorageError
        The disk is full, or the place cannot be written to.
    """
    text = json.dumps(numbers)
    write_safetensors(path, arrays, {"xpert": text, "digest": _digest(arrays, text)})


def read_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    FileFormatError
        The file is cut, changed or no checkpoint.
    """
    arrays, metadata = read_safetensors(path)
    text, stated = metadata.get("xpert", ""), metadata.get("digest", "none")
    found = _digest(arrays, text)
    if found != stated:
        raise FileFormatError(
            f"The checkpoint '{path}' is broken: its digest is {found[:12]}, it says {stated[:12]}. Remove it to start anew."
        )
    numbers: dict[str, Any] = json.loads(text)
    return arrays, numbers


def _digest(arrays: Tensors, text: str) -> str:
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()
