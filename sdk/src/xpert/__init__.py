"""XPerT: explain personal LLMs in words, choose the nearest one by coefficients, fine-tune that one.

What needs numpy alone is here at once; what needs torch is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xpert.core.catalogue import Catalogue, load_compact
from xpert.core.encoder import JointEncoder
from xpert.core.errors import XpertError
from xpert.core.explanation import Explanation
from xpert.core.merging import MergeRecipe, solve_merge
from xpert.core.runtime import PersonalizeOptions, find_runtime
from xpert.core.selection import SavingModel, Selection, choose
from xpert.core.space import StyleSpace, build_space
from xpert.core.texts import PersonalText, read_pairs, read_texts

if TYPE_CHECKING:
    from xpert.models.base import load_base
    from xpert.models.encoders import default_encoder
    from xpert.models.explaining import explain_adapters
    from xpert.models.merging import merge_adapters
    from xpert.models.names import resolve
    from xpert.models.tuning import finetune

__version__ = "0.1.0"

__all__ = [
    "Catalogue",
    "Explanation",
    "JointEncoder",
    "MergeRecipe",
    "PersonalText",
    "PersonalizeOptions",
    "SavingModel",
    "Selection",
    "StyleSpace",
    "XpertError",
    "build_space",
    "choose",
    "default_encoder",
    "explain_adapters",
    "find_runtime",
    "finetune",
    "load_base",
    "load_compact",
    "merge_adapters",
    "read_pairs",
    "read_texts",
    "resolve",
    "solve_merge",
]

_HEAVY = {
    "default_encoder": "xpert.models.encoders",
    "explain_adapters": "xpert.models.explaining",
    "finetune": "xpert.models.tuning",
    "load_base": "xpert.models.base",
    "merge_adapters": "xpert.models.merging",
    "resolve": "xpert.models.names",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module 'xpert' has no attribute {name!r}")
