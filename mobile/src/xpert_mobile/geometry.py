"""What a model's config says about its shape, and which architectures can be exported."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_bytes

SUPPORTED = {"llama": False, "qwen2": True}
"""Architecture (transformers' ``model_type``) -> whether its query, key and value projections have a bias."""


PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear modules of a layer, in the order in which programs take their adapters."""

PRECISIONS = ("float32", "int8")
"""How a base's projections are stored: as they are, or as whole numbers with a scale for every output row."""

SCALED = "weight_scale"
"""Ends the names of the scales of int8 weights, shape (n_outputs, 1)."""

TRANSPOSED = "weight_transposed"
"""Ends the names of the second copies of weights that the backward pass takes, shape (n_inputs, n_outputs)."""

N_KEPT, SHOWN = 6, 3
"""Values that the method `inner` gives for the backward pass, and the first of those that `outer` takes."""

WHOLE_VOCABULARY = 16384
"""Up to this many tokens a generation program takes the output layer in one run: for one token at a time, logits are few."""

CHUNK = 32
"""Tokens of a prompt that a generation program reads at a time, at most."""

MASKED = -1e9
"""Added to the scores of what a token must not attend to."""

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""Parameters of Llama 3's rotary scaling."""

LARGEST, MOST_LAYERS = 2**31 - 1, 1000
"""Sizes above these are no model's."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The shape of a decoder of the Llama family (SmolLM is Llama).

    Attributes
    ----------
    model_type
        ``llama`` or ``qwen2``.
    n_layers, n_heads, n_kv_heads, head_dim, hidden, intermediate, vocabulary, context
        Sizes; the context in tokens.
    norm_eps
        Of the root mean square norms.
    tied
        Whether the output layer is the embedding.
    qkv_bias
        Whether query, key and value projections have a bias.
    rope
        Parameters of the rotary embedding: ``rope_theta``, and those of Llama 3's scaling where it is used.
    """

    model_type: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int
    context: int
    norm_eps: float
    tied: bool
    qkv_bias: bool
    rope: tuple[tuple[str, float], ...]

    def layer_key(self) -> str:
        """Identify the geometry of one layer and of the head: models that share it share exported programs."""
        sizes = {
            key: value for key, value in asdict(self).items() if key not in {"n_layers", "tied", "context", "model_type", "rope"}
        }
        return json.dumps(sizes, sort_keys=True)


def read_geometry(base: Path) -> Geometry:
    """Read a model's geometry from its config.

    Raises
    ------
    InputError
        Its architecture cannot be exported.
    FileFormatError
        The config is broken.
    """
    path = Path(base) / "config.json"
    try:
        config = json.loads(read_bytes(path))
        kind = str(config.get("model_type"))
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        geometry = Geometry(
            model_type=kind,
            n_layers=int(config["num_hidden_layers"]),
            n_heads=heads,
            n_kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            norm_eps=float(config["rms_norm_eps"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=bool(config.get("attention_bias", False)) or SUPPORTED.get(kind, False),
            rope=_rope(config),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, KeyError) and kind not in SUPPORTED:
            raise _unsupported(path, f"the architecture '{kind}'") from error
        raise _unusable(path, repr(error)) from error
    if kind not in SUPPORTED:
        raise _unsupported(path, f"the architecture '{kind}'")
    odd = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "mlp_bias": bool(config.get("mlp_bias")),
        "attention_bias": kind == "llama" and bool(config.get("attention_bias")),
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "rope_scaling": dict(geometry.rope).get("supported") == 0.0,
    }
    if any(odd.values()):
        raise _unsupported(path, ", ".join(f"{key} = {config.get(key)}" for key, is_odd in odd.items() if is_odd))
    problems = _misfits(geometry)
    if problems:
        raise _unusable(path, "; ".join(problems))
    return geometry


def module_of(projection: str) -> str:
    """Return where a projection stands in a layer: ``self_attn.q_proj``, ``mlp.up_proj``."""
    return f"{'self_attn' if projection in PROJECTIONS[:4] else 'mlp'}.{projection}"


def weight_names(geometry: Geometry) -> list[str]:
    """List a layer's weights in the order in which programs take them."""
    names = ["input_layernorm.weight", "post_attention_layernorm.weight"]
    names += [f"{module_of(p)}.weight" for p in PROJECTIONS]
    return names + ([f"self_attn.{p}.bias" for p in PROJECTIONS[:3]] if geometry.qkv_bias else [])


def layer_weights(geometry: Geometry, precision: str, *, transposed: bool = False) -> list[str]:
    """List what programs take of a layer: its weights, behind those of projections their scales (int8) and transposed copies."""
    kinds = ["weight"] + [SCALED] * (precision == "int8") + [TRANSPOSED] * transposed
    stored = {f"{module_of(p)}.weight": [f"{module_of(p)}.{kind}" for kind in kinds] for p in PROJECTIONS}
    return [part for name in weight_names(geometry) for part in stored.get(name, [name])]


def shapes_of(geometry: Geometry) -> dict[str, tuple[int, int]]:
    """Return (n_outputs, n_inputs) of every projection."""
    g = geometry
    q, kv = g.n_heads * g.head_dim, g.n_kv_heads * g.head_dim
    rows = {"q_proj": (q, g.hidden), "k_proj": (kv, g.hidden), "v_proj": (kv, g.hidden), "o_proj": (g.hidden, q)}
    wide = {"gate_proj": (g.intermediate, g.hidden), "up_proj": (g.intermediate, g.hidden)}
    return {**rows, **wide, "down_proj": (g.hidden, g.intermediate)}


def vocabulary_block(geometry: Geometry, *, whole: int = 0) -> int:
    """Return the rows of the output layer a run: no more than a layer's widest weight has, so that no run takes more memory.

    A vocabulary of up to ``whole`` tokens is taken in one run.
    """
    if geometry.vocabulary <= whole:
        return geometry.vocabulary
    return min(geometry.vocabulary, max(1024, 1 << (geometry.intermediate.bit_length() - 1)))


def _misfits(g: Geometry) -> list[str]:
    """List the sizes that no model can have: what they would do later has no message."""
    sizes = ("n_layers", "n_heads", "n_kv_heads", "head_dim", "hidden", "intermediate", "vocabulary", "context")
    problems = [f"{key} is {getattr(g, key)}, expected 1 to {LARGEST}" for key in sizes if not 1 <= getattr(g, key) <= LARGEST]
    if g.n_layers > MOST_LAYERS:
        problems.append(f"it has {g.n_layers} layers, expected at most {MOST_LAYERS}")
    if g.n_kv_heads > 0 and g.n_heads % g.n_kv_heads:
        problems.append(f"{g.n_heads} heads cannot share {g.n_kv_heads} key-value heads")
    if g.head_dim % 2:
        problems.append(f"a head of {g.head_dim} values cannot be rotated, expected an even number")
    rope = dict(g.rope)
    given = {"rms_norm_eps": g.norm_eps, **rope}
    problems += [f"{key} is {value}, expected more than 0" for key, value in given.items() if not 0 < value < math.inf]
    if "factor" in rope and not rope["low_freq_factor"] < rope["high_freq_factor"]:
        problems.append(f"low_freq_factor is {rope['low_freq_factor']}, expected less than {rope['high_freq_factor']}")
    return problems


def _rope(config: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Read the rotary parameters, from where transformers 5 keeps them or from where older configs do."""
    given = config.get("rope_parameters") or {
        **(config.get("rope_scaling") or {}),
        "rope_theta": config.get("rope_theta", 10000.0),
    }
    kind = given.get("rope_type") or given.get("type") or "default"
    keys = {"default": ("rope_theta",), "llama3": ("rope_theta", *LLAMA3)}.get(kind)
    if keys is None:
        return (("supported", 0.0),)
    return tuple((key, float(given[key])) for key in keys)


def _unusable(path: Path, what: str) -> FileFormatError:
    return FileFormatError(f"'{path}' is not a usable config: {what}. Fetch the model again.")


def _unsupported(path: Path, what: str) -> InputError:
    return InputError(
        f"Cannot export the model of '{path}': found {what}. Supported are Llama (SmolLM included) and Qwen2 with SiLU and "
        "full attention. Choose such a base."
    )
