"""The style space: axes with words as labels, in a whitened feature space, versioned and bound to one encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.data import StyledText
from xpert.core.encoder import Encoder
from xpert.core.errors import FileFormatError, InputError, MismatchError
from xpert.core.files import Tensors, check_header, read_safetensors, sha256_hex, write_safetensors

DEFAULT = "default.space.safetensors"
FORMAT = "xpert-space"
FORMAT_VERSION = 1
NEUTRAL = "neutral"
MAX_AXES = 1024
BATCH = 64

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleSpace:
    """Axes of style and the feature space they live in.

    A text's raw vector becomes features: the sentence embedding times ``sentence_weight``, beside the statistics as
    ``tanh((value - offset) / (2 scale))``. Features are whitened by the covariance of texts within a style, in which topic
    counts as noise; there the axes are mean differences (style minus neutral), so that a coefficient of 1 says: as much
    of this style as the exemplars have.

    Attributes
    ----------
    name, version
        Identify the space to people; the digest identifies it to programs.
    encoder
        Name of the encoder whose raw vectors it takes.
    words
        Label of every axis, sorted.
    n_sentence
        Leading columns of a raw vector that are the sentence embedding.
    sentence_weight, ridge
        Weight of the embedding; ridge as a share of the axes' mean squared length.
    offset, scale
        Mean and spread of every statistic over neutral texts, shape (dim - n_sentence,).
    whitening
        Symmetric, shape (dim, dim).
    axes
        Whitened mean differences, shape (n_axes, dim).
    """

    name: str
    version: int
    encoder: str
    words: tuple[str, ...]
    n_sentence: int
    sentence_weight: float
    ridge: float
    offset: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    whitening: NDArray[np.float32] = field(repr=False)
    axes: NDArray[np.float32] = field(repr=False)

    @property
    def dim(self) -> int:
        """Columns of a raw vector."""
        return self.n_sentence + len(self.offset)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the description and the arrays."""
        parts = [json.dumps(self._description(), sort_keys=True).encode()]
        parts += [np.ascontiguousarray(a, "<f4").tobytes() for a in self._arrays().values()]
        return sha256_hex(b"".join(sha256_hex(part).encode() for part in parts))

    @cached_property
    def solver(self) -> Matrix:
        """Ridge least squares as one matrix: coefficients = whitened difference @ solver, shape (dim, n_axes)."""
        axes = self.axes.astype(np.float64)
        gram = axes @ axes.T
        ridge = self.ridge * np.trace(gram) / len(gram)
        return np.linalg.solve(gram + ridge * np.eye(len(gram)), axes).T

    @cached_property
    def projection(self) -> Matrix:
        """Features to coefficients as one matrix, shape (dim, n_axes): all that a phone needs to keep."""
        return self.whitening.astype(np.float64) @ self.solver

    def features(self, raw: NDArray[np.floating]) -> Matrix:
        """Turn raw vectors (n, dim) into features (n, dim).

        Raises
        ------
        MismatchError
            The vectors have another width than this space's encoder gives.
        InputError
            They hold NaN or infinity.
        """
        raw = np.asarray(raw, np.float64)
        if raw.ndim != 2 or raw.shape[1] != self.dim:
            raise MismatchError(
                f"The style space '{self.name}' takes vectors of {self.dim} columns from '{self.encoder}', found an array "
                f"of shape {raw.shape}. Use that encoder, or build a space for yours."
            )
        if not np.isfinite(raw).all():
            raise InputError("The texts' vectors hold NaN or infinity: the encoder is broken. Check its model files.")
        return _features(raw.astype(np.float64), self.n_sentence, self.sentence_weight, self.offset, self.scale)

    def whiten(self, raw: NDArray[np.floating]) -> Matrix:
        """Turn raw vectors (n, dim) into whitened features (n, dim), in which differences are decomposed."""
        return self.features(raw) @ self.whitening.astype(np.float64)

    def coefficients(self, raw: NDArray[np.floating]) -> Matrix:
        """Turn raw vectors (n, dim) into coefficients (n, n_axes).

        Only differences of coefficients mean something: a pLLM's answers minus the base's.
        """
        return self.features(raw) @ self.projection

    def unexplained(self, raw: NDArray[np.floating]) -> Matrix:
        """Return what no axis explains of raw vectors (n, dim), in the statistics alone, shape (n, dim - n_sentence).

        The sentence embedding is left out: what remains there is mostly topic.
        """
        whitened = self.whiten(raw)
        residual = whitened - (whitened @ self.solver) @ self.axes.astype(np.float64)
        return residual[:, self.n_sentence :]

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder that this space was not made for.

        Raises
        ------
        MismatchError
            The names differ.
        """
        if encoder.name != self.encoder:
            raise MismatchError(
                f"The style space '{self.name}' was made with the encoder '{self.encoder}', found '{encoder.name}'. Use that "
                "encoder, or build a space for yours with xpert.build_space."
            )

    def save(self, path: Path) -> None:
        """Write the space as one safetensors file, whole or not at all."""
        header = {"format": FORMAT, "version": FORMAT_VERSION, "digest": self.digest, **self._description()}
        write_safetensors(path, self._arrays(), {"xpert": json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> StyleSpace:
        """Read a space and check it against its digest.

        Raises
        ------
        FileFormatError
            It is cut, tampered with, of another format or of a newer version.
        """
        arrays, metadata = read_safetensors(path)
        header = read_header(path, metadata, kind=FORMAT, max_version=FORMAT_VERSION)
        try:
            space = _from_parts(header, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"'{path}' is no usable style space: {error}. Build it again.") from error
        if header.get("digest") != space.digest:
            raise FileFormatError(
                f"'{path}' was changed after it was written: its digest is {space.digest[:12]}, it says "
                f"{str(header.get('digest'))[:12]}. Fetch or build it again."
            )
        return space

    @classmethod
    def default(cls) -> StyleSpace:
        """Load the space that comes with the package: 24 English words, from StyleBank (b001 to b120) and the exemplars."""
        with as_file(files("xpert").joinpath("data", DEFAULT)) as path:
            return cls.load(path)

    def _description(self) -> dict[str, object]:
        return {
            "name": self.name,
            "space_version": self.version,
            "encoder": self.encoder,
            "words": list(self.words),
            "n_sentence": self.n_sentence,
            "sentence_weight": self.sentence_weight,
            "ridge": self.ridge,
        }

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"offset": self.offset, "scale": self.scale, "whitening": self.whitening, "axes": self.axes}


def read_header(path: Path, metadata: Mapping[str, str], *, kind: str, max_version: int) -> dict[str, object]:
    """Read our JSON header from a safetensors file's metadata.

    Raises
    ------
    FileFormatError
        There is none, or it is of another format or of a newer version.
    """
    try:
        header = json.loads(metadata.get("xpert", "null"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"'{path}' has a broken header: {error}. Make the file again.") from error
    return check_header(path, header, kind=kind, max_version=max_version)


def build_space(
    items: Sequence[StyledText],
    encoder: Encoder,
    *,
    name: str = "custom",
    version: int = 1,
    sentence_weight: float = 3.0,
    ridge: float = 0.05,
    raw: NDArray[np.floating] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> StyleSpace:
    """Build a style space from parallel texts: the same prompts answered neutrally and in styles.

    Parameters
    ----------
    items
        The texts; every style needs at least two prompts that have a neutral answer too.
    encoder
        What embeds them.
    name, version
        Identify the space to people.
    sentence_weight, ridge
        See `StyleSpace`.
    raw
        Raw vectors of the texts, shape (n_items, dim), if they are there already.
    progress
        ``progress(done, total)``, told of the texts that are embedded.

    Raises
    ------
    InputError
        The texts do not do; the message lists every problem.
    """
    _check_items(items)
    vectors = np.asarray(_encode(items, encoder, progress) if raw is None else raw, np.float64)
    style = np.array([item.style for item in items])
    statistics = vectors[style == NEUTRAL, encoder.n_sentence :]
    offset, scale = statistics.mean(0).astype(np.float32), (statistics.std(0) + 1e-3).astype(np.float32)
    features = _features(vectors, encoder.n_sentence, sentence_weight, offset, scale)
    whitening = _whitening(features, style)
    neutral = {item.id: i for i, item in enumerate(items) if item.style == NEUTRAL}
    words = tuple(sorted({item.style for item in items} - {NEUTRAL}))
    axes = []
    for word in words:
        pairs = [(i, neutral[item.id]) for i, item in enumerate(items) if item.style == word and item.id in neutral]
        styled, plain = np.array(pairs).T
        axes.append((features[styled] - features[plain]).mean(0) @ whitening)
    return StyleSpace(
        name=name,
        version=version,
        encoder=encoder.name,
        words=words,
        n_sentence=encoder.n_sentence,
        sentence_weight=sentence_weight,
        ridge=ridge,
        offset=offset,
        scale=scale,
        whitening=whitening.astype(np.float32),
        axes=np.array(axes, np.float32),
    )


def _encode(items: Sequence[StyledText], encoder: Encoder, progress: Callable[[int, int], object] | None) -> NDArray[np.floating]:
    parts = []
    for start in range(0, len(items), BATCH):
        parts.append(encoder.encode([item.text for item in items[start : start + BATCH]]))
        if progress:
            progress(min(start + BATCH, len(items)), len(items))
    return np.concatenate(parts)


def _check_items(items: Sequence[StyledText]) -> None:
    neutral = {item.id for item in items if item.style == NEUTRAL}
    problems = [] if len(neutral) > 1 else [f"{len(neutral)} texts in the style '{NEUTRAL}', at least 2 are needed"]
    for word in sorted({item.style for item in items} - {NEUTRAL}):
        n_pairs = sum(item.style == word and item.id in neutral for item in items)
        if n_pairs < 2:
            problems.append(f"'{word}' has {n_pairs} texts whose prompt has a neutral answer, at least 2 are needed")
    if not any(item.style != NEUTRAL for item in items):
        problems.append("there is no style beside neutral")
    seen: set[tuple[str, str]] = set()
    for item in items:
        if (item.id, item.style) in seen:
            problems.append(f"prompt '{item.id}' is answered twice in the style '{item.style}'")
        if not item.text.strip():
            problems.append(f"the text of prompt '{item.id}' in the style '{item.style}' is empty")
        seen.add((item.id, item.style))
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise InputError(f"Cannot build a style space: {'; '.join(problems[:8])}{more}.")


def _features(raw: Matrix, n_sentence: int, weight: float, offset: NDArray[np.floating], scale: NDArray[np.floating]) -> Matrix:
    squashed = np.tanh((raw[:, n_sentence:] - offset) / (2 * scale))
    return np.concatenate([weight * raw[:, :n_sentence], squashed], axis=1)


def _whitening(features: Matrix, style: NDArray[np.str_]) -> Matrix:
    """Return the inverse square root of the pooled within-style covariance, shrunk to its diagonal."""
    centred = np.concatenate([features[style == s] - features[style == s].mean(0) for s in np.unique(style)])
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    covariance = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 1e-3 * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    root: Matrix = (vectors * values**-0.5) @ vectors.T
    return root


def _from_parts(header: Mapping[str, object], arrays: Tensors) -> StyleSpace:
    words = header["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError("its words are no list of texts")
    if not 1 <= len(words) <= MAX_AXES or len(set(words)) != len(words):
        raise ValueError(f"{len(words)} words, expected 1 to {MAX_AXES} different ones")
    n_sentence, name, encoder = header["n_sentence"], header["name"], header["encoder"]
    version, weight, ridge = header["space_version"], header["sentence_weight"], header["ridge"]
    if not (isinstance(name, str) and isinstance(encoder, str) and isinstance(version, int)):
        raise ValueError("its name, encoder or version is missing")
    if not isinstance(n_sentence, int) or n_sentence < 0:
        raise ValueError(f"n_sentence is {n_sentence!r}")
    if not isinstance(weight, (int, float)) or not isinstance(ridge, (int, float)) or not (weight >= 0 and ridge > 0):
        raise ValueError(f"sentence_weight is {weight!r} and ridge {ridge!r}, expected numbers, the ridge above 0")
    n_statistics = arrays["offset"].size
    dim = n_sentence + n_statistics
    shapes = {"offset": (n_statistics,), "scale": (n_statistics,), "whitening": (dim, dim), "axes": (len(words), dim)}
    for key, shape in shapes.items():
        if arrays[key].shape != shape or arrays[key].dtype != np.float32:
            raise ValueError(f"{key} is {arrays[key].dtype} of shape {arrays[key].shape}, expected float32 of {shape}")
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} holds NaN or infinity")
    if (arrays["scale"] <= 0).any():
        raise ValueError("scale holds values of 0 or below")
    return StyleSpace(
        name=name,
        version=version,
        encoder=encoder,
        words=tuple(words),
        n_sentence=n_sentence,
        sentence_weight=float(weight),
        ridge=float(ridge),
        **{key: arrays[key] for key in shapes},
    )
