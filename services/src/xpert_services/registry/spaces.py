"""Style spaces: immutable, by the digest of their content."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from xpert.core.errors import ConflictError, NotFoundError
from xpert.core.space import StyleSpace
from xpert.wire import Page, Space
from xpert_services.listing import read_page
from xpert_services.registry.samples import put_probes, read_probes
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
        self._probes: dict[str, tuple[str, ...]] = {}
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

    def keep(self, space: StyleSpace, *, exemplars: str | None = None, probes: Sequence[str] = ()) -> Space:
        """Store and register a space that was made here.

        Parameters
        ----------
        space
            The space.
        exemplars
            Digest of what it was made from.
        probes
            What base and pLLMs are asked that are explained in it; empty: what the site asks.

        Raises
        ------
        ConflictError
            The same space is there with other probes.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FILE
            space.save(path)
            files = {"space": self._store.artifacts.put(path, kind="space").digest}
        if probes:
            files["probes"] = put_probes(self._store, probes)
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

    def probes(self, digest: str) -> tuple[str, ...]:
        """Return the probes of a space that has its own; else none.

        Raises
        ------
        NotFoundError
            It is not registered.
        """
        own = self.get(digest).probes
        if own is None:
            return ()
        if own not in self._probes:
            self._probes[own] = read_probes(self._store, own)
        return self._probes[own]

    def page(self, *, after: str | None, limit: int) -> Page[Space]:
        """List the spaces."""
        found, following = read_page(self._store, COLLECTION, after=after, limit=limit)
        return Page[Space](items=[Space.model_validate(record.value) for record in found], next=following)

    def _record(self, space: StyleSpace, files: dict[str, str]) -> tuple[Space, bool]:
        now = datetime.fromtimestamp(self._store.objects.now(), UTC)
        body = Space.of(space, artifact=files["space"], probes=files.get("probes"), created=now)
        try:
            self._store.records.create(COLLECTION, space.digest, Draft(body.model_dump(mode="json"), files))
        except ConflictError:
            found = self.get(space.digest)
            if body.probes not in (None, found.probes):
                raise ConflictError(
                    f"The style space '{space.name}', version {space.version}, is there with other probes, and pLLMs may be "
                    "explained by them. Give it another version."
                ) from None
            return found, False
        return body, True
