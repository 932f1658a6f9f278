"""An artifact's card: the small object that says where its bytes are, changed by compare-and-swap only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xpert.core.errors import FileFormatError, NotFoundError
from xpert.core.files import check_header
from xpert_services.store.keys import blob_key, card_key
from xpert_services.store.objects import ObjectStore

FORMAT = "xpert-artifact"
FORMAT_VERSION = 1
State = Literal["pending", "live", "condemned", "dead"]
STATES = ("pending", "live", "condemned", "dead")


@dataclass(frozen=True)
class Artifact:
    """A stored file.

    Attributes
    ----------
    digest
        SHA-256 of its content: its address.
    kind
        What it is.
    size
        Bytes.
    """

    digest: str
    kind: str
    size: int


@dataclass(frozen=True)
class Card:
    """What a store knows of an artifact.

    Attributes
    ----------
    digest
        SHA-256 of its bytes.
    kind
        What it is, one of `xpert_services.store.artifacts.KINDS`.
    size
        Bytes.
    generation
        Which upload holds the bytes; a name that is never used again once the card is dead.
    state
        "pending": announced, bytes on their way; "live"; "condemned": the garbage collector looks a second time; "dead":
        the bytes are being removed or gone.
    touch
        Differs from write to write, so that no two have the same etag.
    """

    digest: str
    kind: str
    size: int
    generation: str
    state: State
    touch: str = ""

    @property
    def artifact(self) -> Artifact:
        """What callers see of it."""
        return Artifact(self.digest, self.kind, self.size)

    @property
    def blob(self) -> str:
        """Key of the bytes."""
        return blob_key(self.digest, self.generation)

    @property
    def readable(self) -> bool:
        """Whether the bytes are there to be read."""
        return self.state in ("live", "condemned")

    def turned(self, state: State) -> Card:
        """Return the card in another state."""
        return replace(self, state=state)


def new_name() -> str:
    """Return a name that nothing else has."""
    return uuid.uuid4().hex


def read_card(objects: ObjectStore, digest: str) -> tuple[Card, str] | None:
    """Return an artifact's card with its etag, or None where the store never had it.

    Raises
    ------
    FileFormatError
        The card was cut or edited.
    """
    key = card_key(digest)
    try:
        content = objects.get(key)
    except NotFoundError:
        return None
    value = load(key, content.data, kind=FORMAT, max_version=FORMAT_VERSION)
    fields = {name: value.get(name) for name in ("digest", "kind", "size", "generation", "state", "touch")}
    texts = all(isinstance(fields[name], str) for name in fields if name != "size")
    if not texts or type(fields["size"]) is not int or fields["state"] not in STATES or fields["digest"] != digest:
        raise FileFormatError(f"'{key}' is no usable card of an artifact. Restore it from a backup.")
    return Card(**fields), content.etag  # type: ignore[arg-type]


def write_card(objects: ObjectStore, card: Card, etag: str | None) -> str:
    """Write a card in the place of the one with ``etag`` (None: where there is none) and return the new etag.

    Raises
    ------
    ConflictError
        Another writer was first.
    """
    value = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(replace(card, touch=new_name()))}
    return objects.put(card_key(card.digest), dump(value), if_absent=etag is None, if_match=etag)


def dump(value: Mapping[str, Any]) -> bytes:
    """Return ``value`` as the bytes of a JSON document."""
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def load(key: str, data: bytes, *, kind: str, max_version: int) -> dict[str, Any]:
    """Read a JSON document of the store.

    Raises
    ------
    FileFormatError
        It is cut, not JSON, of another format or of a newer version.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"'{key}' is not valid JSON: {error}. Was it cut or edited? Restore it from a backup.") from error
    return check_header(Path(key), value, kind=kind, max_version=max_version)
