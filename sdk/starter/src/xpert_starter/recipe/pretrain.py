"""Stage 1: a small Llama learns English from public-domain books."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from xpert.core.data import exemplars, stylebank
from xpert.core.errors import NotFoundError
from xpert.core.files import staged_folder
from xpert_starter.recipe.chat import ASSISTANT, END, SYSTEM, TEMPLATE, USER
from xpert_starter.recipe.loop import Batch, train

VOCABULARY = 4097
LENGTH, ROWS = 256, 16
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def pretrain(
    data: Path, out: Path, *, minutes: float = 70.0, seed: int = 0, compiled: bool = True, say: Callable[[str], None] = print
) -> Path:
    """Train a tokenizer and a base on the books in ``data/gutenberg`` and write them to ``out``.

    Raises
    ------
    NotFoundError
        There are no books.
    """
    books = [gzip.decompress(path.read_bytes()).decode() for path in sorted((data / "gutenberg").glob("*.txt.gz"))]
    if not books:
        raise NotFoundError(f"There are no books in '{data / 'gutenberg'}'. Put plain texts there, as *.txt.gz.")
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(books)
    ids = np.concatenate([[*tokenizer.encode(book), tokenizer.eos_token_id] for book in books])
    end = tokenizer.eos_token_id
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), eos_token_id=end, pad_token_id=end, bos_token_id=None, **SHAPE)
    )
    work = out.parent / f".{out.name}.checkpoint"
    batches = _windows(ids, np.random.default_rng(seed))
    train(model, batches, work, minutes=minutes, learning_rate=2e-3, weight_decay=0.1, compiled=compiled, say=say)
    save(model, tokenizer, out)
    return out


def make_tokenizer(books: list[str]) -> Any:
    """Train a byte-level BPE tokenizer with the chat marks and the chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*books, *[t.text for t in (*stylebank(), *exemplars())] * 4], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    wrapped.chat_template = TEMPLATE
    return wrapped


def save(model: Any, tokenizer: Any, out: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a model with its tokenizer, whole or not at all."""
    with staged_folder(out) as stage:
        model.to(dtype).save_pretrained(stage)
        tokenizer.save_pretrained(stage)


def _windows(ids: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
    while True:
        starts = rng.integers(0, len(ids) - LENGTH - 1, ROWS)
        block = torch.from_numpy(np.stack([ids[i : i + LENGTH + 1] for i in starts]).astype(np.int64))
        yield block[:, :-1].contiguous(), block[:, 1:].contiguous(), None
