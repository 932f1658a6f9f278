"""Export of a BERT-type encoder at any length; needs torch, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from xpert_mobile.lowering import lower


class _Encoder(nn.Module):
    """Hidden states of one unpadded text: no mask is needed, so that the program has none."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embeddings, self.layers = model.embeddings, model.encoder.layer
        self.heads = model.config.num_attention_heads

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embeddings(input_ids=ids)
        for layer in self.layers:
            attention = layer.attention
            q, k, v = (self._split(part(x)) for part in (attention.self.query, attention.self.key, attention.self.value))
            scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(x.shape)
            x = attention.output.LayerNorm(attention.output.dense(mixed) + x)
            x = layer.output.LayerNorm(layer.output.dense(layer.intermediate(x)) + x)
        return x

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def export_encoder(folder: Path, *, max_length: int) -> bytes:
    """Export the encoder in ``folder`` for texts of up to ``max_length`` tokens."""
    model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False).eval()
    length = torch.export.Dim("length", min=2, max=max_length)
    example = torch.zeros(1, 16, dtype=torch.long)
    return lower({"forward": (_Encoder(model), (example,))}, packed=True, dynamic={"forward": {"ids": {1: length}}})
