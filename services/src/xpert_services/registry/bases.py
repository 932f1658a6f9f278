"""Base models: what the server can load, by name and digest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from xpert.core.errors import AccessError, ConflictError, NotFoundError
from xpert.models.digest import base_digest
from xpert.models.names import resolve
from xpert.wire import Base, BaseDraft, Page
from xpert_services.listing import read_page
from xpert_services.store import Draft, Store

COLLECTION = "bases"


class Bases:
    """The base models of a server.

    Parameters
    ----------
    store
        Where their records are; their weights stay where the server loads them from.
    folders
        Folders below which a base may be given by path; without, only collections (``starter:base``) and the hub are open.
    """

    def __init__(self, store: Store, *, folders: Sequence[Path] = ()) -> None:
        self._store = store
        self._folders = [Path(folder).resolve() for folder in folders]

    def register(self, draft: BaseDraft) -> tuple[Base, bool]:
        """Register a base; returns it, and whether it is new. The same base again is no error.

        Raises
        ------
        NotFoundError
            The server cannot load it.
        AccessError
            It is a folder that the server's operator did not open.
        ConflictError
            Another base has the name.
        """
        digest = base_digest(self.find(draft.source))
        created = datetime.fromtimestamp(self._store.objects.now(), UTC)
        base = Base(name=draft.name, source=draft.source, digest=digest, created=created)
        try:
            self._store.records.create(COLLECTION, base.name, Draft(base.model_dump(mode="json")))
        except ConflictError:
            found = self.get(draft.name)
            if found.digest != digest:
                raise ConflictError(
                    f"The base '{draft.name}' has the digest {found.digest[:12]}, '{draft.source}' has {digest[:12]}. "
                    "Take another name."
                ) from None
            return found, False
        return base, True

    def find(self, source: str) -> Path:
        """Return the folder of a base's files.

        Raises
        ------
        NotFoundError, AccessError
            As for `register`.
        """
        if "\x00" in source:
            raise NotFoundError("There is no model of that name: it holds a zero byte.")
        path = Path(source).absolute()
        is_path = path.exists() or source.startswith((".", "/", "~"))
        if is_path and not any(path.resolve().is_relative_to(folder) for folder in self._folders):
            raise AccessError("This server opens no such folder. Give 'starter:NAME' or a hub name, or ask its operator.")
        return resolve(source)

    def get(self, name: str) -> Base:
        """Describe a base.

        Raises
        ------
        NotFoundError
            It is not registered.
        """
        try:
            return Base.model_validate(self._store.records.get(COLLECTION, name).value)
        except NotFoundError:
            raise NotFoundError(f"There is no base '{name}' here. Register it: POST /v1/bases.") from None

    def page(self, *, after: str | None = None, limit: int = 100) -> Page[Base]:
        """List the bases."""
        found, following = read_page(self._store, COLLECTION, after=after, limit=limit)
        return Page[Base](items=[Base.model_validate(record.value) for record in found], next=following)

    def names(self) -> list[str]:
        """List the names of all bases."""
        return [record.name for record in self._store.records.list(COLLECTION)]
