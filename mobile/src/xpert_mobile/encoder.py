"""The sentence encoder as a program: one text at a time at its own length, so that nothing is padded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xpert.core.errors import FileFormatError, TrainingError
from xpert.core.files import read_bytes, sha256_hex, write_atomic
from xpert.models.digest import base_digest
from xpert.models.encoders import MINILM
from xpert_mobile.engine import Program

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
    """

    def __init__(self, folder: Path, *, cache: Path, label: str = MINILM, threads: int = 2) -> None:
        limits = json.loads(read_bytes(folder / "sentence_bert_config.json"))
        config = json.loads(read_bytes(folder / "config.json"))
        self.name, self.dim = label, int(config["hidden_size"])
        self.max_length = int(limits.get("max_seq_length") or config["max_position_embeddings"])
        try:
            self._tokenizer = Tokenizer.from_str(read_bytes(folder / "tokenizer.json").decode())
        except Exception as error:  # the tokenizers library raises bare exceptions
            raise FileFormatError(f"Cannot read the tokenizer of '{folder}': {error}. Install it again.") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length)
        key = sha256_hex(f"{base_digest(folder)} {version('executorch')} {self.max_length}".encode())[:16]
        path = Path(cache) / f"encoder-{key}.pte"
        if not path.exists():
            self._export(folder, path)
        self._program = Program(path, threads=threads)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit embeddings of ``texts``, shape (n_texts, dim)."""
        rows = [self._embed(self._program, text) for text in texts]
        return np.array(rows, np.float32).reshape(len(texts), self.dim)

    def _embed(self, program: Program, text: str) -> NDArray[np.float32]:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        mean: NDArray[np.float32] = program.run("forward", [ids])[0][0].mean(0)
        unit: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit

    def _export(self, folder: Path, path: Path) -> None:
        from xpert.models.encoders import SentenceTransformerEncoder
        from xpert_mobile.encoder_export import export_encoder

        program = export_encoder(folder, max_length=self.max_length)
        staged = path.with_suffix(".unchecked")
        write_atomic(staged, program)
        try:
            loaded = Program(staged, threads=2)
            ours = np.array([self._embed(loaded, text) for text in CHECK_TEXTS])
            worst = float((ours * SentenceTransformerEncoder(folder).encode(CHECK_TEXTS)).sum(1).min())
            if not worst >= AGREEMENT:
                raise TrainingError(
                    f"The exported encoder agrees with torch to a cosine of {worst:.5f}, at least {AGREEMENT} is required; it is "
                    "not kept. Check the versions of torch and executorch against the lock."
                )
            write_atomic(path, program)
        finally:
            staged.unlink(missing_ok=True)
