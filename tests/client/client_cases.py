"""What several test files of the client make."""

from __future__ import annotations

from pathlib import Path

from xpert.client.fake.state import adapter_bytes


def write_adapter(folder: Path, seed: str, *, width: int = 8) -> Path:
    folder.mkdir()
    for name, data in adapter_bytes(seed, width=width).items():
        (folder / name).write_bytes(data)
    return folder
