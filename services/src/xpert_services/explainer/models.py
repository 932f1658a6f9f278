"""Models that a worker has loaded."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from pathlib import Path

from xpert.core.encoder import JointEncoder
from xpert.core.errors import MismatchError
from xpert.models.base import BaseModel, load_base
from xpert.models.encoders import default_encoder
from xpert_services.registry import Bases
from xpert_services.store import Store


class Models:
    """Loads bases and the encoder once, and lets go of the base that was not used for longest.

    Parameters
    ----------
    store
        Where adapters are.
    bases
        What is registered.
    most_bases
        How many bases to keep loaded.
    """

    def __init__(self, store: Store, bases: Bases, *, most_bases: int = 2) -> None:
        self._store, self._bases, self._most = store, bases, most_bases
        self._loaded: OrderedDict[str, BaseModel] = OrderedDict()

    @cached_property
    def encoder(self) -> JointEncoder:
        """The default encoder."""
        return default_encoder()

    def base(self, name: str, digest: str) -> BaseModel:
        """Return a base.

        Raises
        ------
        NotFoundError
            It is not registered, or cannot be found any more.
        MismatchError
            What lies there is no longer what was registered.
        """
        if digest not in self._loaded:
            while len(self._loaded) >= self._most:
                self._loaded.popitem(last=False)
            base = load_base(self._bases.find(self._bases.get(name).source))
            if base.digest != digest:
                raise MismatchError(
                    f"The base '{name}' has the digest {base.digest[:12]} now, {digest[:12]} when it was registered. Restore its "
                    "files, or register the new ones under another name."
                )
            self._loaded[digest] = base
        self._loaded.move_to_end(digest)
        return self._loaded[digest]

    def fetch(self, files: dict[str, str], folder: Path) -> Path:
        """Bring an adapter's files to ``folder``."""
        return self._store.artifacts.download_folder(files, folder)
