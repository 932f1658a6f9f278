"""Style spaces: immutable, by the digest of their content."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from xpert.core.errors import ConflictError, NotFoundError
from xpert.core.space import StyleSpace
from xpert.wire import Page, Space
from xpert_services.listing import read_page
from xpert_services.store import Draft, Store

COLLECTION = "spaces"
FILE = "space.safetensors"


class Spaces:
    """The style spaces of a store, and the one that is used where none is named.

    Parameters
    ----------
    store
        Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[str, StyleSpace] = {}
        self._default: Space | None = None

    def register(self, artifact: str) -> tuple[Space, bool]:
        """Register an uploaded space; returns it, and whether it is new.

        Raises
        ------
        NotFoundError
            The artifact was not uploaded.
        FileFormatError
            It is no whole style space.
        """
        with tempfile.TemporaryDirectory() as folder:
            space = StyleSpace.load(self._store.artifacts.download(artifact, Path(folder) / FILE))
        return self._record(space, {"space": artifact})

    def keep(self, space: StyleSpace, *, exemplars: str | None = None) -> Space:
        """Store and register a space that was made here, with the digest of the exemplars that it was made from."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FILE
            space.save(path)
            files = {"space": self._store.artifacts.put(path, kind="space").digest}
        return self._record(space, files | ({"exemplars": exemplars} if exemplars else {}))[0]

    @property
    def default_digest(self) -> str | None:
        """Digest of the space that `default` returns, once that was called."""
        return self._default.digest if self._default else None

    def default(self) -> Space:
        """Return the space that comes with the package, registered by the first call."""
        # Almost every request asks for it, and reading its arrays to take their digest costs more than all the rest.
        if self._default is None:
            space = StyleSpace.default()
            try:
                self._default = self.get(space.digest)
            except NotFoundError:
                self._default = self.keep(space)
        return self._default

    def get(self, digest: str) -> Space:
        """Describe a space.

        Raises
        ------
        NotFoundError
            It is not registered.
        """
        try:
            return Space.model_validate(self._store.records.get(COLLECTION, digest).value)
        except NotFoundError:
            raise NotFoundError(f"There is no style space {digest[:12]} here. Register it: POST /v1/spaces.") from None

    def load(self, digest: str) -> StyleSpace:
        """Read a space; it is kept for the next call.

        Raises
        ------
        NotFoundError
            It is not registered.
        """
        if digest not in self._loaded:
            with tempfile.TemporaryDirectory() as folder:
                path = self._store.artifacts.download(self.get(digest).artifact, Path(folder) / FILE)
                self._loaded[digest] = StyleSpace.load(path)
        return self._loaded[digest]

    def page(self, *, after: str | None, limit: int) -> Page[Space]:
        """List the spaces."""
        found, following = read_page(self._store, COLLECTION, after=after, limit=limit)
        return Page[Space](items=[Space.model_validate(record.value) for record in found], next=following)

    def _record(self, space: StyleSpace, files: dict[str, str]) -> tuple[Space, bool]:
        body = Space.of(space, artifact=files["space"], created=datetime.fromtimestamp(self._store.objects.now(), UTC))
        try:
            self._store.records.create(COLLECTION, space.digest, Draft(body.model_dump(mode="json"), files))
        except ConflictError:
            return self.get(space.digest), False
        return body, True
