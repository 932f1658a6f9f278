"""The starter models: a small base and one LoRA pLLM a style, real and offline."""

from __future__ import annotations

from pathlib import Path

from xpert.core.errors import NotFoundError

__all__ = ["BASE", "names", "path_of"]

BASE = "base"
_MODELS = Path(__file__).parent / "models"


def names() -> tuple[str, ...]:
    """List the pLLMs, sorted; the base is not among them."""
    found = (path.name for path in _MODELS.iterdir() if (path / "adapter_config.json").exists())
    return tuple(sorted(found))


def path_of(name: str) -> Path:
    """Find the folder of the base (``base``) or of a pLLM.

    Raises
    ------
    NotFoundError
        There is no starter model of that name.
    """
    if name != BASE and name not in names():
        raise NotFoundError(f"There is no starter model '{name}'. There are: {BASE}, {', '.join(names())}.")
    return _MODELS / name
