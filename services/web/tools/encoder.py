"""Write the sentence encoder as ONNX for the browser: MiniLM with 8-bit weights and its word pieces.

``python services/web/tools/encoder.py`` writes ``src/encoder/assets/{minilm.onnx,vocab.txt}``. One text at a time at its own
length, so that the graph needs no mask; activations stay 32-bit, so that coefficients stay near those of Python.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xpert.core.files import read_bytes, read_safetensors, write_atomic
from xpert.models.encoders import minilm_folder

OUT = Path(__file__).parents[1] / "src" / "encoder" / "assets"
OPSET = 17
Weights = NDArray[np.float32]


class Graph:
    """Nodes and weights of a graph in the making; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node."""
        out = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(self, value: NDArray[Any]) -> str:
        """Add a constant."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def dense(self, x: str, matrix: Weights, bias: Weights) -> str:
        """Multiply by an 8-bit matrix (n_out, n_in), a scale a row, and add a bias."""
        rows, scale = to_bytes(matrix)
        back = self.node(
            "DequantizeLinear", self.weight(rows.T), self.weight(scale), self.weight(np.zeros_like(scale, np.int8)), axis=1
        )
        return self.node("Add", self.node("MatMul", x, back), self.weight(bias))

    def lookup(self, table: Weights, ids: str) -> str:
        """Look up rows of an 8-bit table, a scale a row."""
        rows, scale = to_bytes(table)
        found = self.node("Cast", self.node("Gather", self.weight(rows), ids), to=TensorProto.FLOAT)
        return self.node("Mul", found, self.node("Gather", self.weight(scale[:, None]), ids))

    def norm(self, x: str, gain: Weights, bias: Weights, epsilon: float) -> str:
        """Normalize a layer."""
        return self.node("LayerNormalization", x, self.weight(gain), self.weight(bias), axis=-1, epsilon=epsilon)


def to_bytes(matrix: Weights) -> tuple[NDArray[np.int8], Weights]:
    """Round every row to 8 bits; returns the rows (n, m) and their scales (n,)."""
    scale = np.maximum(np.abs(matrix).max(1), 1e-8).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def build(folder: Path) -> onnx.ModelProto:
    """Build the encoder in ``folder``: token ids (length,) to a unit embedding (dim,)."""
    arrays, _ = read_safetensors(folder / "model.safetensors")
    config = json.loads(read_bytes(folder / "config.json"))
    heads, size, epsilon = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]
    g = Graph()

    def of(name: str) -> Weights:
        return np.asarray(arrays[name], np.float32)

    def dense(x: str, name: str) -> str:
        return g.dense(x, of(f"{name}.weight"), of(f"{name}.bias"))

    def norm(x: str, name: str) -> str:
        return g.norm(x, of(f"{name}.weight"), of(f"{name}.bias"), epsilon)

    def split(x: str, order: Sequence[int]) -> str:
        return g.node("Transpose", g.node("Reshape", x, by_head), perm=order)

    by_head = g.weight(np.array([0, heads, size // heads]))
    flat = g.weight(np.array([0, size]))
    places = of("embeddings.position_embeddings.weight") + of("embeddings.token_type_embeddings.weight")[0]
    length = g.node("Shape", "ids")
    place = g.node("Slice", g.weight(places), g.weight(np.array([0])), length)
    x = norm(g.node("Add", g.lookup(of("embeddings.word_embeddings.weight"), "ids"), place), "embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q = split(dense(x, f"{layer}.attention.self.query"), (1, 0, 2))
        k = split(dense(x, f"{layer}.attention.self.key"), (1, 2, 0))
        v = split(dense(x, f"{layer}.attention.self.value"), (1, 0, 2))
        scores = g.node("Mul", g.node("MatMul", q, k), g.weight(np.float32((size // heads) ** -0.5)))
        mixed = g.node("Transpose", g.node("MatMul", g.node("Softmax", scores, axis=-1), v), perm=(1, 0, 2))
        attended = dense(g.node("Reshape", mixed, flat), f"{layer}.attention.output.dense")
        x = norm(g.node("Add", attended, x), f"{layer}.attention.output.LayerNorm")
        inner = dense(x, f"{layer}.intermediate.dense")
        erf = g.node("Erf", g.node("Mul", inner, g.weight(np.float32(0.5**0.5))))
        gelu = g.node("Mul", g.node("Mul", inner, g.weight(np.float32(0.5))), g.node("Add", erf, g.weight(np.float32(1))))
        x = norm(g.node("Add", dense(gelu, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    mean = g.node("ReduceMean", x, axes=[0], keepdims=0)
    g.nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=0, p=2))
    graph = helper.make_graph(
        g.nodes,
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["length"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [size])],
        g.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="xpert")


def main() -> None:
    """Write the graph and the word pieces."""
    folder = minilm_folder()
    model = build(folder)
    onnx.checker.check_model(model)
    OUT.mkdir(parents=True, exist_ok=True)
    write_atomic(OUT / "minilm.onnx", model.SerializeToString())
    write_atomic(OUT / "vocab.txt", read_bytes(folder / "vocab.txt"))


if __name__ == "__main__":
    main()
