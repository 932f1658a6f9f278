"""From what a user types to a model's files: a folder, `starter:NAME`, or a name on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from xpert.core.errors import MissingExtraError, NotFoundError

GROUP = "xpert.models"
"""Entry points ``scheme = function``: the function turns NAME of ``scheme:NAME`` into a folder."""

LISTS = "xpert.model_lists"
"""Entry points ``scheme = function``: the function lists the NAMEs of the collection's adapters."""


def resolve(name: str | Path) -> Path:
    """Find the folder of a base model or adapter.

    Parameters
    ----------
    name
        A folder, ``scheme:NAME`` of an installed collection (``starter:concise``), or a hub name, which is downloaded once.

    Raises
    ------
    NotFoundError
        There is nothing of that name, or the hub cannot be reached.
    MissingExtraError
        The collection is not installed.
    """
    text = str(name)
    if Path(text).is_dir():
        return Path(text)
    scheme, _, rest = text.partition(":")
    if rest and "/" not in scheme:
        return _collection(scheme)(rest)
    if Path(text).exists() or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise NotFoundError(
            f"There is no model '{text}'. Give a folder, 'starter:NAME', or a name on the hub such as 'Qwen/Qwen2.5-0.5B'."
        )
    return _download(text)


def listed(scheme: str) -> tuple[str, ...]:
    """List the adapters of an installed collection, as ``scheme:NAME``.

    Raises
    ------
    MissingExtraError
        The collection is not installed.
    """
    names = cast("Callable[[], Sequence[str]]", _load(LISTS, scheme))
    return tuple(f"{scheme}:{name}" for name in names())


def _collection(scheme: str) -> Callable[[str], Path]:
    return cast("Callable[[str], Path]", _load(GROUP, scheme))


def _load(group: str, scheme: str) -> object:
    found = {point.name: point for point in entry_points(group=group)}
    if scheme not in found:
        raise MissingExtraError(
            f"No collection of models '{scheme}:' is installed (found: {', '.join(sorted(found)) or 'none'}). Give a folder, a "
            "name on the hub such as 'Qwen/Qwen2.5-0.5B', or install the starter models: pip install xpert-starter"
        )
    return found[scheme].load()


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise MissingExtraError("Models from the hub need: pip install 'xpert[models]'") from error
    # Pickled weights are never fetched, so that they cannot be loaded by accident.
    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, HFValidationError) as error:
        reason = str(error).splitlines()[0]
        raise NotFoundError(
            f"Cannot fetch '{name}' from the hub: {reason}. Check the name and the network, or give a folder."
        ) from error
