"""The catalogue: the published pLLMs of one base in one style space, readable for people and compact for phones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError, InputError, MismatchError, NotFoundError
from xpert.core.explanation import Explanation
from xpert.core.files import read_json, write_atomic, write_json
from xpert.core.sealed import check_rows, read_sealed, read_shared, seal, shared_arrays
from xpert.core.space import Matrix, StyleSpace

FORMAT, COMPACT_FORMAT = "xpert-catalogue", "xpert-catalogue-compact"
FORMAT_VERSION = 1
BYTES_A_PLLM = 64
SCALE = 1 / 4096
"""Step of a compact coefficient: 16 bits reach from -8 to 8."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What selection needs of a catalogue; both of its forms give it.

    Attributes
    ----------
    base_digest, space_digest
        What the coefficients belong to.
    words
        Labels of the axes.
    names
        Names of the pLLMs; in the compact form their adapter ids.
    coefficients
        Shape (n_pllms, n_axes).
    noise
        Covariance of the coefficients of a single probe, pooled over the pLLMs, shape (n_axes, n_axes).
    base_coefficients
        Mean coefficients of the base's own answers, shape (n_axes,).
    base_unexplained
        Mean of what no axis explains of the base's answers, shape (n_statistics,).
    n_probes
        Probes behind every mean.
    adapter_bytes
        Size of every adapter, shape (n_pllms,).
    adapter_ids
        What the adapters are known by: their digests; in the compact form the first 16 hexadecimal digits.
    crowd
        Mean of the base and all pLLMs where these are but a cell of the catalogue, shape (n_axes,).
    """

    base_digest: str
    space_digest: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    coefficients: Matrix = field(repr=False)
    noise: Matrix = field(repr=False)
    base_coefficients: Matrix = field(repr=False)
    base_unexplained: Matrix = field(repr=False)
    n_probes: int
    adapter_bytes: NDArray[np.int64] = field(repr=False)
    adapter_ids: tuple[str, ...] = field(default=(), repr=False)
    crowd: Matrix | None = field(default=None, repr=False)

    def check_space(self, space: StyleSpace) -> None:
        """Refuse a space that this catalogue was not made in.

        Raises
        ------
        MismatchError
            The digests differ.
        """
        if space.digest != self.space_digest:
            raise MismatchError(
                f"The catalogue was made in the style space {self.space_digest[:12]}, found '{space.name}' with digest "
                f"{space.digest[:12]}. Use the catalogue's space, or explain its pLLMs again in this one."
            )


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The entries of one base and one space, sorted by name.

    Attributes
    ----------
    base_digest, space_digest, words
        What all entries share.
    entries
        The explanations.
    """

    base_digest: str
    space_digest: str
    words: tuple[str, ...]
    entries: tuple[Explanation, ...]

    @classmethod
    def of(cls, entries: Iterable[Explanation]) -> Catalogue:
        """Make a catalogue of ``entries``, which must share base, space and words.

        Raises
        ------
        InputError
            There are none.
        MismatchError
            They belong to different bases or spaces.
        """
        entries = list(entries)
        if not entries:
            raise InputError("A catalogue needs at least one entry. Make some: xpert explain ADAPTER… --base BASE")
        first = entries[0]
        alone = cls(base_digest=first.base_digest, space_digest=first.space_digest, words=first.words, entries=(first,))
        return alone.add(*entries[1:])

    def add(self, *entries: Explanation, replace_existing: bool = False) -> Catalogue:
        """Return a catalogue with ``entries`` added.

        Raises
        ------
        MismatchError
            An entry belongs to another base or space.
        InputError
            A name stands there already and ``replace_existing`` is off.
        """
        held = {entry.name: entry for entry in self.entries}
        problems, taken = [], []
        for entry in entries:
            problems += self._differences(entry)
            if entry.name in held and held[entry.name] != entry and not replace_existing:
                taken.append(entry.name)
            held[entry.name] = entry
        if problems:
            raise MismatchError(f"Cannot add to the catalogue: {'; '.join(problems)}. A catalogue holds one base and one space.")
        if taken:
            raise InputError(f"The catalogue has {', '.join(map(repr, taken))} already. Rename, or replace with --replace.")
        return replace(self, entries=tuple(held[name] for name in sorted(held)))

    def __getitem__(self, name: str) -> Explanation:
        """Return the entry called ``name``.

        Raises
        ------
        NotFoundError
            There is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise NotFoundError(f"The catalogue has no pLLM '{name}'. It has: {', '.join(e.name for e in self.entries)}.")

    @cached_property
    def candidates(self) -> Candidates:
        """What selection needs: arrays instead of records."""
        weights = np.array([entry.n_probes for entry in self.entries], float)
        return Candidates(
            base_digest=self.base_digest,
            space_digest=self.space_digest,
            words=self.words,
            names=tuple(entry.name for entry in self.entries),
            coefficients=np.array([entry.coefficients for entry in self.entries]),
            noise=np.average([entry.covariance for entry in self.entries], axis=0, weights=weights),
            base_coefficients=np.average([e.base_coefficients for e in self.entries], axis=0, weights=weights),
            base_unexplained=np.average([e.base_unexplained for e in self.entries], axis=0, weights=weights),
            n_probes=int(weights.min()),
            adapter_bytes=np.array([entry.adapter_bytes for entry in self.entries], np.int64),
            adapter_ids=tuple(entry.adapter_digest for entry in self.entries),
        )

    def save(self, path: Path) -> None:
        """Write the readable form, whole or not at all."""
        entries = [entry.as_dict() for entry in self.entries]
        write_json(path, {"format": FORMAT, "version": FORMAT_VERSION, "entries": entries})

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read the readable form.

        Raises
        ------
        FileFormatError
            It is cut, edited beyond use, of another format or of a newer version.
        """
        value = read_json(path, format=FORMAT, max_version=FORMAT_VERSION)
        entries = value.get("entries")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise FileFormatError(f"'{path}' is no usable catalogue: it lists no entries. Make it again.")
        return cls.of(Explanation.from_dict(entry, source=f"{path}, entry {i}") for i, entry in enumerate(entries, 1))

    def export_compact(self, path: Path) -> int:
        """Write the compact form; returns the bytes a pLLM takes in it (at most 64), the part shared by all apart.

        Raises
        ------
        InputError
            A pLLM would take more than 64 bytes, or lacks a digest to be fetched by.
        """
        unbound = [entry.name for entry in self.entries if len(entry.adapter_digest) != 64]
        if unbound:
            raise InputError(
                f"Cannot export {', '.join(unbound)}: explained from ready answers, without an adapter that a phone could "
                "fetch. Explain the adapter itself."
            )
        each = _encode(self)
        size = sum(array.nbytes for array in each.values()) // len(self.entries)
        if size > BYTES_A_PLLM:
            raise InputError(f"{len(self.words)} words take {size} bytes a pLLM, at most {BYTES_A_PLLM} fit. Use up to 46 words.")
        found = self.candidates
        shared = shared_arrays(found.noise, found.base_coefficients, found.base_unexplained)
        header = {
            "format": COMPACT_FORMAT,
            "version": FORMAT_VERSION,
            "base_digest": self.base_digest,
            "space_digest": self.space_digest,
            "words": list(self.words),
            "n_probes": self.candidates.n_probes,
        }
        write_atomic(path, seal(header, {**each, **shared})[0])
        return size

    def _differences(self, entry: Explanation) -> list[str]:
        pairs = (("base", self.base_digest, entry.base_digest), ("style space", self.space_digest, entry.space_digest))
        found = [
            f"'{entry.name}' has the {what} {theirs[:12] or 'unknown'}, expected {ours[:12] or 'unknown'}"
            for what, ours, theirs in pairs
            if ours != theirs
        ]
        if not found and entry.words != self.words:
            found = [f"'{entry.name}' has other words"]
        if not found and self.entries and len(entry.base_unexplained) != len(self.entries[0].base_unexplained):
            found = [f"'{entry.name}' has {len(entry.base_unexplained)} unexplained statistics, not as many as the others"]
        return found


def _encode(catalogue: Catalogue) -> dict[str, NDArray[np.generic]]:
    coefficients = catalogue.candidates.coefficients
    entries = catalogue.entries
    digests: Sequence[bytes] = [bytes.fromhex(entry.adapter_digest)[:8] for entry in entries]
    kib = [min(-(-entry.adapter_bytes // 1024), 2**32 - 1) for entry in entries]
    columns: dict[str, NDArray[np.generic]] = {
        "ids": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 8),
        "kib": np.array(kib, np.uint32),
        "strength": np.array([entry.strength for entry in entries], np.float16),
        "residual": np.array([entry.residual_share for entry in entries], np.float16),
    }
    if len(catalogue.words) <= 24:
        steps = np.clip(np.rint(coefficients / SCALE), -32767, 32767)
        return {"coefficients": steps.astype(np.int16), **columns}
    scale = np.maximum(np.abs(coefficients).max(1), 1e-6).astype(np.float16)
    steps = np.rint(coefficients / scale[:, None].astype(float) * 127)
    return {"coefficients": np.clip(steps, -127, 127).astype(np.int8), "scale": scale, **columns}


@dataclass(frozen=True, kw_only=True, eq=False)
class Compact:
    """A compact catalogue as arrays, without a Python object a pLLM.

    Attributes
    ----------
    base_digest, space_digest, words, n_probes, coefficients, noise, base_coefficients, base_unexplained
        As in `Candidates`.
    digest
        Of the catalogue's content.
    ids
        First bytes of the adapters' digests, shape (n_pllms, 8).
    kib
        Sizes of the adapters in KiB, shape (n_pllms,).
    """

    base_digest: str
    space_digest: str
    words: tuple[str, ...]
    n_probes: int
    digest: str
    coefficients: Matrix = field(repr=False)
    noise: Matrix = field(repr=False)
    base_coefficients: Matrix = field(repr=False)
    base_unexplained: Matrix = field(repr=False)
    ids: NDArray[np.uint8] = field(repr=False)
    kib: NDArray[np.uint32] = field(repr=False)

    def row(self, name: str) -> int:
        """Find a pLLM by its id, 16 hexadecimal digits.

        Raises
        ------
        NotFoundError
            There is none.
        """
        found = np.flatnonzero((self.ids == np.frombuffer(bytes.fromhex(name), np.uint8)).all(1))
        if not len(found):
            raise NotFoundError(f"The catalogue has no pLLM '{name}'. Fetch the catalogue again and choose anew.")
        return int(found[0])

    @property
    def candidates(self) -> Candidates:
        """What selection needs."""
        names = hex_names(self.ids)
        return Candidates(
            base_digest=self.base_digest,
            space_digest=self.space_digest,
            words=self.words,
            names=names,
            coefficients=self.coefficients,
            noise=self.noise,
            base_coefficients=self.base_coefficients,
            base_unexplained=self.base_unexplained,
            n_probes=self.n_probes,
            adapter_bytes=self.kib.astype(np.int64) * 1024,
            adapter_ids=names,
        )


def hex_names(ids: NDArray[np.uint8]) -> tuple[str, ...]:
    """Write ids, shape (n_pllms, 8), as pLLMs are called where their names are not known: 16 hexadecimal digits."""
    return tuple(bytes(row).hex() for row in ids)


def load_compact(path: Path) -> Candidates:
    """Read the compact form of a catalogue.

    Raises
    ------
    FileFormatError
        It is cut, tampered with, of another format or of a newer version.
    """
    return read_compact(path).candidates


def read_compact(path: Path) -> Compact:
    """Read the compact form of a catalogue as arrays.

    Raises
    ------
    FileFormatError
        It is cut, tampered with, of another format or of a newer version.
    """
    arrays, header = read_sealed(path, kind=COMPACT_FORMAT, max_version=FORMAT_VERSION)
    try:
        shared = read_shared(header, arrays)
        k, n = len(shared["words"]), len(arrays["ids"])
        coefficients = arrays["coefficients"].astype(np.float64)
        coefficients *= arrays["scale"].astype(np.float64).reshape(n, 1) / 127 if "scale" in arrays else SCALE
        check_rows(arrays, coefficients, k)
        return Compact(coefficients=coefficients, ids=arrays["ids"], kib=arrays["kib"].astype(np.uint32), **shared)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"'{path}' is no usable compact catalogue: {error}. Export it again.") from error
