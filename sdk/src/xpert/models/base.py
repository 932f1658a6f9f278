"""Base models: any Hugging Face causal LM, from safetensors, bound by digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError, InputError, MismatchError, MissingExtraError
from xpert.models.adapters import Adapter, check_base, read_adapter
from xpert.models.digest import base_digest, weight_files
from xpert.models.names import resolve
from xpert.models.panics import panics_as_errors

try:
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging
except ImportError as missing:
    raise MissingExtraError("Models need torch, transformers and peft: pip install 'xpert[models]'") from missing


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseModel:
    """A loaded base model.

    Attributes
    ----------
    name
        What the user called it.
    folder
        Where its files are.
    digest
        Binds adapters to it.
    model, tokenizer
        As transformers loads them; the model is in evaluation mode.
    """

    name: str
    folder: Path
    digest: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight name -> shape."""
        return {name: tuple(value.shape) for name, value in self.model.state_dict().items()}

    def adapter(self, name: str | Path) -> Adapter:
        """Read an adapter and check that it belongs to this base.

        Raises
        ------
        MismatchError
            It was made for another base.
        FileFormatError
            It is not whole.
        """
        found = read_adapter(resolve(name))
        check_base(found, self.digest, self.shapes, name=str(name))
        return found


def load_base(name: str | Path, *, dtype: torch.dtype = torch.float32, device: str | None = None) -> BaseModel:
    """Load a base model and its tokenizer.

    Parameters
    ----------
    name
        A folder, ``starter:base`` or a hub name.
    dtype
        Type to compute in.
    device
        Where to; the GPU if there is one.

    Raises
    ------
    NotFoundError
        There is no such model.
    UnsafeFileError
        Its weights are pickled.
    FileFormatError
        Its files are broken, or no causal language model; or weights are NaN.
    """
    folder = resolve(name)
    weight_files(folder)
    digest = base_digest(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with quiet(), panics_as_errors():
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False).to(
                device
            )
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileFormatError(f"Cannot load '{name}' as a causal language model: {reason}. Check its files.") from error
    broken = [key for key, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise FileFormatError(
            f"'{name}' holds NaN or infinity in {broken[0]}" + (f" and {len(broken) - 1} more" if len(broken) > 1 else "")
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"The tokenizer of '{name}' has no end-of-text token, so answers would never end. Set eos_token.")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise MismatchError(
            f"The tokenizer of '{name}' knows {len(tokenizer)} tokens, the model {model.get_input_embeddings().num_embeddings}. "
            "Give the tokenizer that belongs to it."
        )
    return BaseModel(name=str(name), folder=folder, digest=digest, model=model.eval(), tokenizer=tokenizer)


class quiet:  # noqa: N801
    """Keeps the libraries' progress bars out of our output while the block runs."""

    def __enter__(self) -> None:
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.enable_progress_bar()
