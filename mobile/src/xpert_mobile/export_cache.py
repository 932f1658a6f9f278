"""Programs by content: exported once for a geometry and sizes, then found, and not run when a bit of them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from xpert.core.errors import FileFormatError
from xpert.core.files import sha256_hex, write_atomic
from xpert_mobile.bucket import Bucket
from xpert_mobile.geometry import Geometry

REVISION = 10
"""Raised whenever the programs themselves change, so that kept ones are made again."""

DIGEST, CHUNK = 32, 1 << 20
"""Bytes of the digest behind a program, and those read at a time."""


def training_path(geometry: Geometry, bucket: Bucket, cache: Path) -> Path:
    """Return the file of a training program, exporting it if it is not in ``cache``."""

    def export() -> bytes:
        from xpert_mobile.export import training_program  # only a program that is not there yet needs the exporter

        return training_program(geometry, bucket)

    return kept("train", f"{geometry.layer_key()} {bucket}", cache, export)


def generation_path(geometry: Geometry, bucket: Bucket, cache: Path) -> Path:
    """Return the file of a generation program, exporting it if it is not in ``cache``."""

    def export() -> bytes:
        from xpert_mobile.export import generation_program

        return generation_program(geometry, bucket)

    return kept("generate", f"{geometry.layer_key()} {bucket}", cache, export)


def kept(kind: str, content: str, cache: Path, export: Callable[[], bytes]) -> Path:
    """Return the file of a program, exporting it if it is not in ``cache``.

    Parameters
    ----------
    kind, content
        What it does, and all that it depends on; the file is named by both.
    cache
        Folder of the programs.
    export
        Makes the program.

    Raises
    ------
    FileFormatError
        The file has changed since it was written. The runtime would crash on it, or compute something else.
    """
    key = sha256_hex(f"{kind} {REVISION} {version('executorch')} {content}".encode())
    path = Path(cache) / f"{kind}-{key[:16]}.pte"
    if not path.exists():
        program = export()
        write_atomic(path, program + hashlib.sha256(program).digest())  # the runtime does not look behind a program
    with path.open("rb") as stream:
        left, total = path.stat().st_size - DIGEST, hashlib.sha256()
        while left > 0 and (block := stream.read(min(left, CHUNK))):
            total.update(block)
            left -= len(block)
        if stream.read() != total.digest():
            raise FileFormatError(f"The program '{path}' has changed since it was exported. Remove it; it is exported again.")
    return path


def program_bytes(path: Path) -> bytes:
    """Return the program of a kept file, without the digest behind it."""
    return path.read_bytes()[:-DIGEST]
