"""The sentence encoder as a program: one text at a time at its own length, so that nothing is padded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import FileFormatError, TrainingError
from xpert.core.files import read_bytes
from xpert.models.digest import base_digest
from xpert.models.encoders import MINILM
from xpert_mobile.engine import Program
from xpert_mobile.export_cache import kept
from xpert_mobile.tokens import read_tokenizer

AGREEMENT = 0.9999
"""Smallest cosine between an exported and a torch embedding with which an export is kept."""

CHECK_TEXTS = ("Hello!", "Thou art more lovely and more temperate.", "Half vinegar, half water. Boil, wait, rinse. " * 6)


class ExportedSentenceEncoder:
    """A BERT-type sentence-transformers model with mean pooling, run by ExecuTorch.

    Parameters
    ----------
    folder
        The model in sentence-transformers' format.
    cache
        Folder for the program.
    label
        Name that style spaces record: the same as with torch, for the vectors are the same.
    threads
        CPU threads.

    Attributes
    ----------
    path
        The program's file.
    """

    def __init__(self, folder: Path, *, cache: Path, label: str = MINILM, threads: int = 2) -> None:
        self.name = label
        self.dim, self.max_length = read_sizes(folder)
        self._tokenizer = read_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length)
        self.path = kept("encoder", f"{base_digest(folder)} {self.max_length}", cache, lambda: self._exported(folder))
        self._program = Program(self.path, threads=threads)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit embeddings of ``texts``, shape (n_texts, dim)."""
        rows = [self._embed(self._program, text) for text in texts]
        return np.array(rows, np.float32).reshape(len(texts), self.dim)

    def _embed(self, program: Program, text: str) -> NDArray[np.float32]:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        mean: NDArray[np.float32] = program.run("forward", [ids])[0][0].mean(0)
        unit: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit

    def _exported(self, folder: Path) -> bytes:
        from xpert.models.encoders import SentenceTransformerEncoder
        from xpert_mobile.encoder_export import export_encoder

        program = export_encoder(folder, max_length=self.max_length)
        loaded = Program(program, threads=2)
        ours = np.array([self._embed(loaded, text) for text in CHECK_TEXTS])
        worst = float((ours * SentenceTransformerEncoder(folder).encode(CHECK_TEXTS)).sum(1).min())
        if not worst >= AGREEMENT:
            raise TrainingError(
                f"The exported encoder agrees with torch to a cosine of {worst:.5f}, at least {AGREEMENT} is required; it is "
                "not kept. Check the versions of torch and executorch against the lock."
            )
        return program


def read_sizes(folder: Path) -> tuple[int, int]:
    """Return the width of the embeddings and the most tokens of a text.

    Raises
    ------
    FileFormatError
        The encoder's configs are broken, or give sizes that no encoder has.
    """
    try:
        config = json.loads(read_bytes(folder / "config.json"))
        limits = json.loads(read_bytes(folder / "sentence_bert_config.json"))
        places = int(config["max_position_embeddings"])
        dim, length = int(config["hidden_size"]), int(limits.get("max_seq_length") or places)
        if dim < 1 or not 2 < length <= places:
            raise ValueError(f"found a width of {dim} and texts of {length} tokens, expected at least 1, and 3 to {places}")
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"Cannot read the encoder '{folder}': {error!r}. Fetch or install it again.") from error
    return dim, length
