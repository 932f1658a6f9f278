"""Small models with random weights, of both architectures; tests of several folders save them with their own tokenizers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


def small_llama(**options: Any) -> LlamaForCausalLM:
    """A Llama with tied embeddings."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True, **options))


def small_qwen(**options: Any) -> Qwen2ForCausalLM:
    """A Qwen2 with an output layer of its own and biases."""
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=False, **options))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(std=0.3)
    return model
