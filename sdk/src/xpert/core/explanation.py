"""The explanation of one pLLM: words with coefficients, how sure each is, and what the words leave unexplained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core.decomposition import decompose
from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, write_json
from xpert.core.space import Matrix, StyleSpace

FORMAT = "xpert-entry"
FORMAT_VERSION = 1

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class WordCoefficient:
    """One word of an explanation.

    Attributes
    ----------
    word, coefficient
        1 says: as much of it as the exemplars have.
    lower, upper
        95 % bootstrap interval over probes (or over texts, for a user).
    held_up
        Whether the word was found again on probes it was not computed from.
    """

    word: str
    coefficient: float
    lower: float
    upper: float
    held_up: bool


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What makes one pLLM differ from its base, in one style space; an entry of a catalogue.

    Attributes
    ----------
    name
        The pLLM's name.
    base_digest, adapter_digest, space_digest
        What it was computed from; an empty adapter digest says: from ready answer pairs.
    adapter_bytes
        Size of the adapter's weights, what a phone would download.
    words
        Labels of the axes.
    coefficients, lower, upper
        A value a word: mean over probes and 95 % bootstrap interval.
    held_up
        A flag a word: on each half of the probes, the other half's sign is found again, and it is not zero.
    strength
        Length of the explained part of the mean difference.
    residual_share
        Share of the mean difference's squared length that no word explains.
    n_probes
        Response pairs it was computed from.
    base_coefficients
        Mean coefficients of the base's own answers, a value a word: the origin for texts without base answers.
    covariance
        Covariance of the coefficients of a single probe, a row a word.
    base_unexplained
        Mean over the base's answers of what no axis explains, a value a statistic: the origin for a user's novelty.
    """

    name: str
    base_digest: str
    adapter_digest: str
    space_digest: str
    adapter_bytes: int
    words: tuple[str, ...]
    coefficients: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    held_up: tuple[bool, ...]
    strength: float
    residual_share: float
    n_probes: int
    base_coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    base_unexplained: tuple[float, ...]

    def top(self, n: int = 5) -> list[WordCoefficient]:
        """Return the ``n`` words with the largest coefficients, strongest first."""
        order = np.argsort(-np.abs(np.array(self.coefficients)), kind="stable")[:n]
        return [
            WordCoefficient(
                word=self.words[i],
                coefficient=self.coefficients[i],
                lower=self.lower[i],
                upper=self.upper[i],
                held_up=self.held_up[i],
            )
            for i in order
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-ready data."""
        return {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], *, source: str) -> Explanation:
        """Read an entry from JSON data, checking every part.

        Raises
        ------
        FileFormatError
            A part is missing, of another type or of another length.
        """
        try:
            entry = cls(
                **{key: str(value[key]) for key in ("name", "base_digest", "adapter_digest", "space_digest")},
                adapter_bytes=int(value["adapter_bytes"]),
                words=tuple(map(str, value["words"])),
                coefficients=_floats(value["coefficients"]),
                lower=_floats(value["lower"]),
                upper=_floats(value["upper"]),
                held_up=tuple(map(bool, value["held_up"])),
                strength=float(value["strength"]),
                residual_share=float(value["residual_share"]),
                n_probes=int(value["n_probes"]),
                base_coefficients=_floats(value["base_coefficients"]),
                covariance=tuple(_floats(row) for row in value["covariance"]),
                base_unexplained=_floats(value["base_unexplained"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"'{source}' is no usable entry: {error!r}. Explain the pLLM again.") from error
        k = len(entry.words)
        rows = (entry.coefficients, entry.lower, entry.upper, entry.held_up, entry.base_coefficients, *entry.covariance)
        if k == 0 or len(entry.covariance) != k or any(len(row) != k for row in rows):
            raise FileFormatError(f"'{source}' is no usable entry: its lists differ in length. Explain the pLLM again.")
        in_range = entry.n_probes >= 1 and 0 <= entry.adapter_bytes < 2**63
        if not in_range or not np.isfinite([entry.strength, entry.residual_share]).all():
            raise FileFormatError(f"'{source}' is no usable entry: a number is out of range. Explain the pLLM again.")
        if entry.adapter_digest and not _DIGEST.fullmatch(entry.adapter_digest):
            raise FileFormatError(f"'{source}' is no usable entry: its adapter_digest is no SHA-256. Explain the pLLM again.")
        return entry

    def save(self, path: Path) -> None:
        """Write the entry as JSON, whole or not at all."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: Path) -> Explanation:
        """Read an entry.

        Raises
        ------
        FileFormatError
            It is cut, edited beyond use, of another format or of a newer version.
        """
        return cls.from_dict(read_json(path, format=FORMAT, max_version=FORMAT_VERSION), source=str(path))


def explain_pairs(
    name: str,
    base_raw: NDArray[np.floating],
    pllm_raw: NDArray[np.floating],
    space: StyleSpace,
    *,
    base_digest: str = "",
    adapter_digest: str = "",
    adapter_bytes: int = 0,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Explanation:
    """Explain a pLLM from the raw vectors of its and its base's answers to the same probes.

    Parameters
    ----------
    name
        The pLLM's name.
    base_raw, pllm_raw
        Raw vectors of the answers, shape (n_probes, dim), row by row to the same probe.
    space
        The style space.
    base_digest, adapter_digest, adapter_bytes
        What the answers came from.
    seed, n_bootstrap
        Bootstrap over probes.

    Raises
    ------
    InputError
        The two differ in length, or there are fewer than four pairs.
    """
    if len(base_raw) != len(pllm_raw) or len(base_raw) < 4:
        raise InputError(
            f"Cannot explain '{name}' from {len(pllm_raw)} answers against {len(base_raw)} of the base: expected the same "
            "number, at least 4 and better 30 or more."
        )
    plain = space.coefficients(base_raw)
    single = space.coefficients(pllm_raw) - plain
    whole = decompose(space, (space.whiten(pllm_raw) - space.whiten(base_raw)).mean(0))
    lower, upper = bootstrap_interval(single, seed=seed, n_bootstrap=n_bootstrap)
    return Explanation(
        name=name,
        base_digest=base_digest,
        adapter_digest=adapter_digest,
        space_digest=space.digest,
        adapter_bytes=adapter_bytes,
        words=space.words,
        coefficients=_floats(single.mean(0)),
        lower=_floats(lower),
        upper=_floats(upper),
        held_up=tuple(map(bool, _held_up(single))),
        strength=whole.strength,
        residual_share=whole.residual_share,
        n_probes=len(single),
        base_coefficients=_floats(plain.mean(0)),
        covariance=tuple(_floats(row) for row in np.atleast_2d(np.cov(single.T))),
        base_unexplained=_floats(space.unexplained(base_raw).mean(0)),
    )


def bootstrap_interval(single: Matrix, *, seed: int, n_bootstrap: int = 1000) -> tuple[Matrix, Matrix]:
    """Return the 95 % bootstrap interval of the mean of ``single`` (n, k) over its rows, two arrays of shape (k,)."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(single), np.full(len(single), 1 / len(single)), size=n_bootstrap) / len(single)
    lower, upper = np.quantile(weights @ single, [0.025, 0.975], axis=0)
    return lower, upper


def _held_up(single: Matrix) -> NDArray[np.bool_]:
    """Find the words whose sign, on either half of the probes, is confirmed by a one-sided test on the other half."""
    halves = single[0::2], single[1::2]
    confirmed = np.ones(single.shape[1], bool)
    for seen, unseen in (halves, halves[::-1]):
        error = unseen.std(0, ddof=1) / len(unseen) ** 0.5 + 1e-12
        confirmed &= np.sign(seen.mean(0)) * unseen.mean(0) / error > 1.64
    return confirmed


def _floats(values: Any) -> tuple[float, ...]:
    row = tuple(float(value) for value in values)
    if not np.isfinite(row).all():
        raise ValueError("it holds NaN or infinity")
    return row
