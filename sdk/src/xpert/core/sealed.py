"""Files whose header has the digest of header and arrays: what compact catalogues, their deltas and cells share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError
from xpert.core.files import Tensors, dump_safetensors, read_safetensors, sha256_hex
from xpert.core.space import Matrix, read_header

TOLERANCE = 0.1
"""Rounding may leave a covariance a little below zero in some direction; what selection adds to it is twice as much."""


def seal(header: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]) -> tuple[bytes, str]:
    """Return a file's bytes and the digest that was put into its header."""
    digest = content_digest(header, arrays)
    return dump_safetensors(arrays, {"xpert": json.dumps({**header, "digest": digest}, sort_keys=True)}), digest


def content_digest(header: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the digest of a header, but for the digest there, and of its arrays."""
    parts = [json.dumps({key: value for key, value in header.items() if key != "digest"}, sort_keys=True).encode()]
    parts += [name.encode() + np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays)]
    return sha256_hex(b"".join(sha256_hex(part).encode() for part in parts))


def read_sealed(path: Path, *, kind: str, max_version: int) -> tuple[Tensors, dict[str, object]]:
    """Read arrays and header of a file whose header has the digest of both.

    Raises
    ------
    FileFormatError
        It is cut, tampered with, of another format or of a newer version.
    """
    arrays, metadata = read_safetensors(path)
    header = read_header(path, metadata, kind=kind, max_version=max_version)
    if header.get("digest") != content_digest(header, arrays):
        raise FileFormatError(f"'{path}' was changed after it was written: its digest does not fit. Fetch or export it again.")
    return arrays, header


def read_shared(header: Mapping[str, object], arrays: Tensors) -> dict[str, Any]:
    """Read what all pLLMs of a catalogue share, from the compact form or from an index of cells.

    Raises
    ------
    KeyError, ValueError
        A part is missing or not what it should be.
    """
    words, n_probes = header["words"], header["n_probes"]
    if not isinstance(words, list) or not isinstance(n_probes, int) or n_probes < 1 or not words:
        raise ValueError("its words or its number of probes are missing")
    k = len(words)
    noise = np.zeros((k, k))
    noise[np.triu_indices(k)] = finite(arrays, "noise")
    noise = np.triu(noise) + np.triu(noise, 1).T
    base, unexplained = finite(arrays, "base"), finite(arrays, "base_unexplained")
    if base.shape != (k,) or unexplained.ndim != 1:
        raise ValueError("its base or base_unexplained is no list of the right length")
    if np.linalg.eigvalsh(noise)[0] < -TOLERANCE * np.trace(noise) / k:
        raise ValueError("its noise is no covariance")
    return {
        "base_digest": str(header["base_digest"]),
        "space_digest": str(header["space_digest"]),
        "digest": str(header["digest"]),
        "words": tuple(map(str, words)),
        "n_probes": n_probes,
        "noise": noise,
        "base_coefficients": base,
        "base_unexplained": unexplained,
    }


def shared_arrays(noise: Matrix, base_coefficients: Matrix, base_unexplained: Matrix) -> dict[str, NDArray[np.generic]]:
    """Write what `read_shared` reads, the words apart."""
    return {
        "noise": noise[np.triu_indices(len(noise))].astype(np.float32),
        "base": base_coefficients.astype(np.float32),
        "base_unexplained": base_unexplained.astype(np.float32),
    }


def finite(arrays: Tensors, name: str) -> Matrix:
    """Return an array of numbers in single precision, whose squares are still finite in double precision.

    Raises
    ------
    KeyError, ValueError
        It is missing, or not what it should be.
    """
    found = arrays[name]
    if found.dtype != np.float32 or not np.isfinite(found).all():
        raise ValueError(f"{name} in {found.dtype}, or with NaN or infinity in it; expected finite numbers in float32")
    return found.astype(np.float64)


def check_rows(arrays: Tensors, coefficients: Matrix, k: int) -> None:
    """Check that ids, sizes and coefficients are those of the same pLLMs.

    Raises
    ------
    ValueError
        They are not.
    """
    ids, n = arrays["ids"], len(arrays["ids"])
    if coefficients.shape != (n, k) or ids.shape != (n, 8) or ids.dtype != np.uint8 or n == 0:
        raise ValueError(f"coefficients of shape {coefficients.shape} for {n} pLLMs and {k} words")
    if arrays["kib"].shape != (n,) or arrays["kib"].dtype != np.uint32:
        raise ValueError("kib is not one size in uint32 a pLLM")
    if not np.isfinite(coefficients).all():
        raise ValueError("it holds NaN or infinity")
