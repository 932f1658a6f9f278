"""From what is to what is to be done: pure functions, without a call to anybody."""

from xpert_operator.reconcile.base_model import BaseObserved, reconcile_base
from xpert_operator.reconcile.pllm import reconcile_pllm
from xpert_operator.reconcile.pllm_seen import PllmObserved, server_name
from xpert_operator.reconcile.space import SpaceObserved, reconcile_space

__all__ = [
    "BaseObserved",
    "PllmObserved",
    "SpaceObserved",
    "reconcile_base",
    "reconcile_pllm",
    "reconcile_space",
    "server_name",
]
