"""Small checkpoints in the real format: a Llama and a Qwen2 with random weights, and adapters on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_cases import small_llama, small_qwen
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from xpert.core.data import exemplars
from xpert.models.adapters import Adapter, LoraPair, write_adapter
from xpert.models.base import BaseModel, load_base

SIZES = {"vocab_size": 328, "max_position_embeddings": 160}
CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def save_tokenizer(folder: Path, *, chat: bool) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([t.text for t in exemplars()[:100]], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")  # noqa: S106
    if chat:
        wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    small_llama(**SIZES).save_pretrained(folder)
    save_tokenizer(folder, chat=True)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    small_qwen(**SIZES).save_pretrained(folder)
    save_tokenizer(folder, chat=False)
    return folder


@pytest.fixture(scope="session")
def base(llama: Path) -> BaseModel:
    return load_base(llama)


def random_adapter(base: BaseModel, *, seed: int, rank: int, targets: tuple[str, ...], scaling: float = 1.0) -> Adapter:
    rng = np.random.default_rng(seed)
    modules = {}
    for name, shape in base.shapes.items():
        module = name.removesuffix(".weight")
        if module.rsplit(".", 1)[-1] in targets:
            down = rng.normal(size=(rank, shape[1])).astype(np.float32) * 0.3
            up = rng.normal(size=(shape[0], rank)).astype(np.float32) * 0.3
            modules[module] = LoraPair(A=down, B=up, scaling=scaling)
    return Adapter(modules=modules, config={}, base_digest=base.digest)


@pytest.fixture(scope="session")
def adapters(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    made = {
        "a": random_adapter(base, seed=1, rank=4, targets=("q_proj", "v_proj", "down_proj"), scaling=0.5),
        "b": random_adapter(base, seed=2, rank=2, targets=("v_proj", "o_proj", "up_proj"), scaling=2.0),
    }
    for name, adapter in made.items():
        write_adapter(folder / name, adapter)
    return {name: folder / name for name in made}
