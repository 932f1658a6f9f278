"""Digests that bind adapters to the base they were made for; computed without loading a model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from xpert.core.errors import FileFormatError, NotFoundError, UnsafeFileError
from xpert.core.files import read_bytes, sha256_hex, tensor_layout

# What a library version or a loader adds to a config without changing the model.
VOLATILE = frozenset({"transformers_version", "torch_dtype", "dtype", "_name_or_path", "use_cache", "architectures"})
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
CHUNK = 1 << 24


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model or adapter.

    Raises
    ------
    NotFoundError
        The folder holds no weights.
    UnsafeFileError
        It holds pickled weights only.
    """
    refuse_pickles(folder)
    files = sorted(Path(folder).glob("*.safetensors"))
    if files:
        return files
    raise NotFoundError(f"'{folder}' holds no *.safetensors. Give the folder of a model or adapter in Hugging Face's format.")


def refuse_pickles(folder: Path) -> None:
    """Refuse a folder with pickled weights and no others.

    Raises
    ------
    UnsafeFileError
        It holds pickled weights only.
    """
    if any(Path(folder).glob("*.safetensors")):
        return
    pickled = [path.name for pattern in PICKLES for path in sorted(Path(folder).glob(pattern))]
    if pickled:
        raise UnsafeFileError(
            f"'{folder}' holds pickled weights only ({', '.join(pickled)}), which could run code when read. Convert them to "
            "safetensors where they were made (model.save_pretrained(...)) and give that folder."
        )


def base_digest(folder: Path) -> str:
    """Compute the digest of a base model: its config and the names, types, shapes and bytes of its tensors.

    Sharding does not change it, nor does what a library version adds to the config.

    Raises
    ------
    FileFormatError
        A file is truncated or not what its name says.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    try:
        config = json.loads(read_bytes(config_file))
        stable = {key: value for key, value in config.items() if key not in VOLATILE}
    except (ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"'{config_file}' is not a model's config: {error}. Fetch the model again.") from error
    total = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
    tensors: dict[str, str] = {}
    for path in weight_files(folder):
        tensors |= tensor_digests(path)
    for name in sorted(tensors):
        total.update(f"{name}={tensors[name]}\n".encode())
    return total.hexdigest()


def tensor_digests(path: Path) -> dict[str, str]:
    """Return name -> digest of type, shape and bytes of every tensor in a safetensors file, read in chunks.

    Raises
    ------
    FileFormatError
        The file is truncated or not safetensors.
    """
    start, header = tensor_layout(path)
    with path.open("rb") as stream:
        return {name: _tensor(stream, start, entry) for name, entry in header.items()}


def _tensor(stream: BinaryIO, start: int, entry: dict[str, Any]) -> str:

    begin, end = entry["data_offsets"]
    digest = hashlib.sha256(f"{entry['dtype']} {entry['shape']} ".encode())
    stream.seek(start + begin)
    left = end - begin
    while left > 0:
        block = stream.read(min(CHUNK, left))
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


def encoder_digest(folder: Path) -> str:
    """Return the digest of all weights of a sentence-transformers model, its modules' folders included."""
    files = sorted(Path(folder).rglob("*.safetensors"))
    parts = [f"{path.relative_to(folder)} {sorted(tensor_digests(path).items())}" for path in files]
    return sha256_hex("\n".join(parts).encode())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return sha256_hex(read_bytes(path))
