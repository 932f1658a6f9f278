"""The custom resources as typed models, and their definitions."""

from xpert_operator.resources.base_model import BaseModelSpec, BaseModelStatus
from xpert_operator.resources.crds import BASE_MODEL, GROUP, KINDS, PLLM, STYLE_SPACE, VERSION, Kind
from xpert_operator.resources.parts import Condition
from xpert_operator.resources.pllm import PersonalizedLLMSpec, PersonalizedLLMStatus, Word
from xpert_operator.resources.style_space import Failure, SpaceVersion, StyleSpaceSpec, StyleSpaceStatus

__all__ = [
    "BASE_MODEL",
    "GROUP",
    "KINDS",
    "PLLM",
    "STYLE_SPACE",
    "VERSION",
    "BaseModelSpec",
    "BaseModelStatus",
    "Condition",
    "Failure",
    "Kind",
    "PersonalizedLLMSpec",
    "PersonalizedLLMStatus",
    "SpaceVersion",
    "StyleSpaceSpec",
    "StyleSpaceStatus",
    "Word",
]
