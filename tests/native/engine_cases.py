"""Texts, adapters and bundles for the tests of the native engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from xpert.models.adapters import stamp
from xpert.models.digest import base_digest
from xpert_mobile.bucket import Bucket
from xpert_mobile.export_cache import generation_path, program_bytes, training_path
from xpert_mobile.geometry import Geometry, layer_weights

SAMPLES: list[tuple[list[int], int]] = [
    (np.random.default_rng(i).integers(4, 4000, 14 + 3 * i).tolist(), 3 + i) for i in range(8)
]
"""Texts as ids, with the length of their prompts."""


def lora_of(base: Path, model: nn.Module, folder: Path, *, rank: int = 4, alpha: float = 16.0, **options: Any) -> Path:
    """An adapter as PEFT writes it, with factors that both change something; the model is left as it was."""
    torch.manual_seed(2)
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules="all-linear", **options)  # type: ignore[arg-type]
    adapted = get_peft_model(model, config)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    adapted.save_pretrained(str(folder))
    adapted.unload()  # type: ignore[operator]
    stamp(folder, base_digest(base))
    return folder


def answer_loss(model: Any, samples: list[tuple[list[int], int]], *, front: int = 0) -> torch.Tensor:
    """Mean loss of the answers' tokens, by torch; ``front``: places that a learned prompt takes in the logits."""
    total, count = torch.zeros(()), 0
    for ids, n_prompt in samples:
        logits = model(input_ids=torch.tensor([ids])).logits[0, front:]
        total = total + nn.functional.cross_entropy(logits[n_prompt - 1 : -1], torch.tensor(ids[n_prompt:]), reduction="sum")
        count += len(ids) - n_prompt
    return total / count


def empty_bundle(folder: Path, cache: Path, *, n_layers: int) -> Path:
    """A bundle whose weights are zeros, in a file that takes no room; wide enough that layers outweigh the runtime.

    Only memory is measured on it: its programs are real, the same ones for every depth.
    """
    sizes = {
        "n_heads": 4,
        "n_kv_heads": 4,
        "head_dim": 128,
        "hidden": 512,
        "intermediate": 1536,
        "vocabulary": 512,
        "context": 64,
    }
    geometry = Geometry(
        model_type="llama", n_layers=n_layers, norm_eps=1e-5, tied=True, qkv_bias=False, rope=(("rope_theta", 1e4),), **sizes
    )
    names, q, wide = layer_weights(geometry, "float32"), [512, 512], [1536, 512]
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [512, 512], "model.norm.weight": [512]}
    for i in range(n_layers):
        for name in names:
            part = name.split(".")[-2]
            known = {"gate_proj": wide, "up_proj": wide, "down_proj": wide[::-1]}
            shapes[f"model.layers.{i}.{name}"] = known.get(part, q if part.endswith("proj") else [512])
    header, place = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + place)
    bucket = Bucket(rank=2, batch=1, length=16, vocabulary_block=geometry.vocabulary)
    (folder / "train.pte").write_bytes(program_bytes(training_path(geometry, bucket, cache)))
    (folder / "generate.pte").write_bytes(program_bytes(generation_path(geometry, bucket, cache)))
    stated = {**{key: getattr(geometry, key) for key in ("n_layers", "tied", "qkv_bias")}, **sizes, "rope": dict(geometry.rope)}
    base = {"geometry": stated, "weights": "model.safetensors", "layer_weights": names, "digest": "0" * 64, "end": 0}
    sizes = {"rank": 2, "vocabulary_block": geometry.vocabulary}
    programs = {kind: [{"file": f"{kind}.pte", **sizes}] for kind in ("train", "generate")}
    (folder / "manifest.json").write_text(json.dumps({"base": base, "programs": programs}))
    return folder
