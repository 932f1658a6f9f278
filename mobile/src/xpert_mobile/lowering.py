"""From torch functions to one ExecuTorch program; the only module that touches ExecuTorch's export, which is experimental."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.config.gemm_configs import GEMMConfig, LinearConfig, MMConfig
from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor, nn

Method = tuple[Callable[..., Any], tuple[Tensor, ...]]
"""A function of tensors and inputs of the shapes it will be given."""


class _WeightsAsInputs(LinearConfig):  # type: ignore[misc]
    """Takes a linear operation's weight as an input of the delegate: the stock partitioner would pack a copy, or refuse."""

    def _get_weight_deps(self, node: Any, ep: Any, precision: Any) -> Any:
        if precision == ConfigPrecisionType.FP32:
            return True, []
        return GEMMConfig._get_weight_deps(self, node, ep, precision)


class _FactorsAsInputs(MMConfig):  # type: ignore[misc]
    """Takes both factors of a product as inputs of the delegate."""

    def get_deps(self, node: Any, ep: Any) -> Any:
        return GEMMConfig.get_deps(self, node, ep)

    def _get_weight_deps(self, node: Any, ep: Any, precision: Any) -> Any:
        return True, []


class _Method(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def lower(methods: Mapping[str, Method], *, packed: bool = False, dynamic: Mapping[str, Any] | None = None) -> bytes:
    """Export functions and lower them to one program.

    Parameters
    ----------
    methods
        Name -> function and example inputs. No tensor may stand twice among the inputs of a method: the export would merge
        the two.
    packed
        Let the delegate keep packed copies of constant weights: faster, for programs that own their weights.
    dynamic
        Method -> dimensions of its inputs that vary, as torch.export takes them.

    Returns
    -------
    bytes
        The program.
    """
    with _quiet(), torch.no_grad():
        exported = {}
        for name, (function, inputs) in methods.items():
            module = (function if isinstance(function, nn.Module) else _Method(function)).eval()
            module(*inputs)  # Makes the constants that functions keep: made while it exports, they would be fakes for good.
            exported[name] = torch.export.export(module, inputs, dynamic_shapes=(dynamic or {}).get(name), strict=False)
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner() if packed else _partitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        program = edge.to_executorch(
            ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False))
        )
        return bytes(program.buffer)


def _partitioner() -> XnnpackPartitioner:
    own: dict[str, Any] = {"LinearConfig": _WeightsAsInputs, "MMConfig": _FactorsAsInputs}
    configs: Sequence[Any] = [own.get(config.__name__, config) for config in ALL_PARTITIONER_CONFIGS]
    return XnnpackPartitioner(configs=configs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings about its own internals away from the user; errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
