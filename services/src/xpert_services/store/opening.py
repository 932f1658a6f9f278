"""Opening a store by its URL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from minio.credentials.providers import Provider

from xpert.core.errors import InputError
from xpert_services import tracing
from xpert_services.store import layout
from xpert_services.store.artifacts import Artifacts
from xpert_services.store.copying import Copied, Copier
from xpert_services.store.folder import FolderObjects
from xpert_services.store.garbage import Collected, GarbageCollector, Retention
from xpert_services.store.objects import ObjectStore
from xpert_services.store.parts import Parts
from xpert_services.store.records import Records
from xpert_services.store.s3 import Endpoint, S3Objects
from xpert_services.store.traced import TracedObjects

# What a URL may say after "?" -> the field of Endpoint.
OPTIONS = {"endpoint": "url", "region": "region", "addressing": "addressing", "ca": "ca"}


@dataclass(frozen=True)
class Store:
    """Artifacts and the records that refer to them.

    Attributes
    ----------
    objects
        Where they are.
    """

    objects: ObjectStore

    @property
    def artifacts(self) -> Artifacts:
        """The files, by digest."""
        return Artifacts(self.objects)

    @property
    def parts(self) -> Parts:
        """What interrupted uploads left."""
        return Parts(self.objects)

    @property
    def records(self) -> Records:
        """The documents, by collection and name."""
        return Records(self.objects, self.artifacts)

    def collect_garbage(self, *, retention: Retention | None = None) -> Collected:
        """Remove artifacts that no record refers to, once they are as old as ``retention`` says (by default a day)."""
        collector = GarbageCollector(self.objects, self.records, retention=retention or Retention())
        collected = collector.run()
        return replace(collected, n_orphans=collected.n_orphans + collector.clear_stale())

    def copy_to(self, target: Store) -> Copied:
        """Bring all records, and the artifacts that they refer to, to another store; see `Copier`."""
        return Copier(self.objects, target.objects).run()


def open_store(url: str | Path, *, credentials: Provider | None = None, migrate: bool = False) -> Store:
    """Open a store, which is made where there is none.

    Parameters
    ----------
    url
        A path or ``file:///PATH``, or
        ``s3://BUCKET[/PREFIX][?endpoint=https://HOST[:PORT]&region=...&addressing=auto|path|virtual&ca=FILE]``.
    credentials
        For S3, what signs requests (``minio.credentials``, such as ``StaticProvider`` or ``AssumeRoleProvider``); by default
        AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. They never appear in messages.
    migrate
        Bring an older layout to this one first.

    Raises
    ------
    InputError
        The URL cannot be used.
    MismatchError
        The store has an older layout.
    FileFormatError
        The store has a newer layout.
    StorageError
        It cannot be reached, or refuses.
    """
    objects = open_objects(url, credentials=credentials)
    if migrate:
        layout.migrate(objects)
    layout.prepare(objects)
    return Store(TracedObjects(objects) if tracing.is_on() else objects)


def open_objects(url: str | Path, *, credentials: Provider | None = None) -> ObjectStore:
    """Return the place that ``url`` names, without a look at what it holds (see `open_store`)."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not parts.scheme:
        return FolderObjects(Path(url))
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise InputError(f"'{url}' names no local folder. Write file:///PATH with three slashes, or just the path.")
        return FolderObjects(Path(unquote(parts.path)))
    if parts.scheme != "s3":
        raise InputError(f"A store cannot be at '{parts.scheme}:'. Use a path, file:///PATH or s3://BUCKET/PREFIX.")
    # Neither the URL nor its parts may be quoted from here on: they may hold a secret.
    if "@" in parts.netloc:
        raise InputError("The URL of an S3 store must not hold credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not parts.netloc or not set(given) <= set(OPTIONS):
        raise InputError(f"The URL of an S3 store must be s3://BUCKET[/PREFIX][?...] with only {', '.join(OPTIONS)} after '?'.")
    options = {OPTIONS[name]: value for name, value in given.items()}
    return S3Objects(Endpoint(parts.netloc, unquote(parts.path).strip("/"), **options), credentials=credentials)
