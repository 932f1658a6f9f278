"""Programs by content: exported once for a geometry and sizes, then found without torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from xpert.core.files import sha256_hex, write_atomic
from xpert_mobile.geometry import Geometry

REVISION = 2
"""Raised whenever the programs themselves change, so that kept ones are made again."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The static sizes of a program.

    Attributes
    ----------
    rank
        Of the adapter.
    batch, length
        Texts and tokens a run.
    """

    rank: int
    batch: int
    length: int


def training_path(geometry: Geometry, *, rank: int, batch: int, length: int, cache: Path) -> Path:
    """Return the file of a training program, exporting it if it is not in ``cache``."""
    return _kept("train", geometry, Bucket(rank=rank, batch=batch, length=length), cache)


def generation_path(geometry: Geometry, *, rank: int, length: int, cache: Path) -> Path:
    """Return the file of a generation program, exporting it if it is not in ``cache``."""
    return _kept("generate", geometry, Bucket(rank=rank, batch=1, length=length), cache)


def _kept(kind: str, geometry: Geometry, bucket: Bucket, cache: Path) -> Path:
    sizes = f"{kind} {REVISION} {version('executorch')} {geometry.layer_key()} {bucket}"
    path = Path(cache) / f"{kind}-{sha256_hex(sizes.encode())[:16]}.pte"
    if not path.exists():
        # Only a program that is not there yet needs torch and transformers.
        from xpert_mobile.export import generation_program, training_program

        export = training_program if kind == "train" else generation_program
        write_atomic(path, export(geometry, bucket))
    return path
