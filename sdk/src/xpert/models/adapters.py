"""Adapters in PEFT's format: read, checked and written with numpy alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as dump_tensors

from xpert.core.errors import FileFormatError, MismatchError, NotFoundError
from xpert.core.files import ADAPTER_FILES, read_bytes, read_safetensors, sha256_hex, staged_folder
from xpert.models.digest import file_digest, weight_files

CONFIG, WEIGHTS = ADAPTER_FILES
BASE_KEY = "xpert_base_digest"
"""Key in the safetensors metadata that names the base's digest: PEFT reads such a file without noticing."""

_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight$")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraPair:
    """One module's low-rank update: weight + scaling * B @ A.

    Attributes
    ----------
    A
        Shape (rank, n_inputs).
    B
        Shape (n_outputs, rank).
    scaling
        Factor of the product, ``alpha / rank`` (``alpha / sqrt(rank)`` for rank-stabilized LoRA).
    """

    A: NDArray[np.float32]
    B: NDArray[np.float32]
    scaling: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A LoRA adapter.

    Attributes
    ----------
    modules
        Module name as the base model has it (``model.layers.0.self_attn.q_proj``) -> its update.
    config
        PEFT's configuration.
    base_digest
        Digest of the base it was made for; empty where its maker left none.
    digest
        SHA-256 over the weights' file and the scalings, which stand in the config; empty for one that is not stored yet.
    n_bytes
        Size of that file.
    """

    modules: Mapping[str, LoraPair] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    base_digest: str = ""
    digest: str = ""
    n_bytes: int = 0


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter and check that it is whole.

    Raises
    ------
    UnsafeFileError
        Its weights are pickled.
    FileFormatError
        It is truncated, holds NaN or infinity, or is no plain LoRA adapter; the message lists every problem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"There is no adapter folder '{folder}'. Check the path.")
    path = folder / WEIGHTS
    if not path.exists():
        weight_files(folder)  # says so where there are pickled weights only
        raise NotFoundError(f"'{folder}' holds no {WEIGHTS}. Give a folder in PEFT's format.")
    config = _read_config(folder / CONFIG)
    tensors, metadata = read_safetensors(path)
    halves, problems = _halves(tensors)
    modules = {}
    for module, pair in sorted(halves.items()):
        if set(pair) != {"A", "B"}:
            problems.append(f"{module} has only lora_{next(iter(pair))}")
        elif pair["A"].ndim != 2 or pair["B"].ndim != 2 or pair["A"].shape[0] != pair["B"].shape[1]:
            problems.append(f"{module} has A {pair['A'].shape} and B {pair['B'].shape}, whose ranks differ")
        else:
            scaling = _scaling(config, module, pair["A"].shape[0])
            if np.isfinite(scaling):
                modules[module] = LoraPair(**pair, scaling=scaling)
            else:
                problems.append(f"{module} has no usable scale: lora_alpha is {config.get('lora_alpha')!r}")
    if not modules and not problems:
        problems.append("it has no LoRA weights")
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise FileFormatError(f"Cannot use the adapter '{folder}': {'; '.join(problems[:6])}{more}. Train or fetch it again.")
    return Adapter(
        modules=modules,
        config=config,
        base_digest=metadata.get(BASE_KEY, ""),
        digest=sha256_hex(f"{file_digest(path)} {[(name, modules[name].scaling) for name in modules]}".encode()),
        n_bytes=path.stat().st_size,
    )


def check_base(adapter: Adapter, base_digest: str, shapes: Mapping[str, tuple[int, ...]], *, name: str) -> None:
    """Refuse an adapter that belongs to another base.

    Parameters
    ----------
    adapter
        The adapter.
    base_digest
        Digest of the base at hand.
    shapes
        Weight name of the base -> shape, such as ``model.layers.0.mlp.up_proj.weight`` -> (n_outputs, n_inputs).
    name
        What the user called the adapter.

    Raises
    ------
    MismatchError
        The digests differ, or a module does not fit; the message lists every misfit.
    """
    if adapter.base_digest and adapter.base_digest != base_digest:
        raise MismatchError(
            f"Cannot use '{name}' with this base: it was made for the base {adapter.base_digest[:12]}, this one is "
            f"{base_digest[:12]}. Give the base it was trained on."
        )
    problems = []
    for module, pair in adapter.modules.items():
        expected = shapes.get(f"{module}.weight")
        found = (pair.B.shape[0], pair.A.shape[1])
        if expected is None:
            problems.append(f"the base has no {module}")
        elif tuple(expected) != found:
            problems.append(f"{module} is {found}, the base's is {tuple(expected)}")
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise MismatchError(
            f"Cannot use '{name}' with this base: {'; '.join(problems[:4])}{more}. Give the base it was trained on."
        )


def write_adapter(folder: Path, adapter: Adapter, *, base_name: str = "", dtype: str = "float32") -> None:
    """Write an adapter as a folder in PEFT's format, whole or not at all.

    Modules may differ in rank; the scaling of each is folded into B, so that PEFT's own factor becomes 1.
    """
    tensors, ranks = {}, {}
    for module, pair in adapter.modules.items():
        prefix = f"base_model.model.{module}"
        tensors[f"{prefix}.lora_A.weight"] = np.ascontiguousarray(pair.A.astype(dtype))
        tensors[f"{prefix}.lora_B.weight"] = np.ascontiguousarray((pair.B * pair.scaling).astype(dtype))
        ranks[module] = pair.A.shape[0]
    common = max(ranks.values())
    uneven = {rf"^{re.escape(m)}$": r for m, r in ranks.items() if r != common}
    config = {
        **adapter.config,
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name or adapter.config.get("base_model_name_or_path"),
        "r": common,
        "lora_alpha": common,
        "use_rslora": False,
        "rank_pattern": uneven,
        "alpha_pattern": uneven,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(ranks),
    }
    with staged_folder(folder) as stage:
        # One key alone: the library writes several in any order, and equal adapters would differ in bytes.
        metadata = {BASE_KEY: adapter.base_digest} if adapter.base_digest else {}
        (stage / WEIGHTS).write_bytes(dump_tensors(tensors, metadata=metadata))
        (stage / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def stamp(folder: Path, base_digest: str) -> None:
    """Write the base's digest into an adapter that PEFT has saved."""
    tensors, _ = read_safetensors(folder / WEIGHTS)
    (folder / WEIGHTS).write_bytes(dump_tensors(tensors, metadata={BASE_KEY: base_digest}))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"'{path}' is not JSON: {error}. Fetch the adapter again.") from error
    if not isinstance(config, dict) or str(config.get("peft_type", "")).upper() != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise FileFormatError(f"'{path}' describes an adapter of type {kind!r}, only LoRA can be used.")
    special = [key for key in ("use_dora", "modules_to_save", "trainable_token_indices", "fan_in_fan_out") if config.get(key)]
    if special or config.get("bias", "none") != "none":
        named = special or ["bias"]
        raise FileFormatError(f"'{path}' uses {', '.join(named)}, which is more than LoRA on linear layers. Train it without.")
    return config


def _halves(tensors: Mapping[str, NDArray[Any]]) -> tuple[dict[str, dict[str, NDArray[np.float32]]], list[str]]:
    halves: dict[str, dict[str, NDArray[np.float32]]] = {}
    problems = []
    for name, value in tensors.items():
        found = _TENSOR.match(name)
        if found is None:
            problems.append(f"unknown weight '{name}'")
        elif not np.isfinite(value.astype(np.float32)).all():
            problems.append(f"{name} holds NaN or infinity")
        else:
            halves.setdefault(found["module"], {})[found["half"]] = value.astype(np.float32)
    return halves, problems


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return the factor of a module's update, NaN where the config gives none."""
    try:
        alpha = config.get("lora_alpha", rank)
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            # PEFT matches a pattern as the tail of the module's name.
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = value
                break
        return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, re.error):
        return float("nan")
