"""Layout 1 of a store: which key holds what (docs/adr/0005-store.md)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from xpert.core.errors import InputError

VERSION = 1
LAYOUT = "layout.json"
ROOT = f"v{VERSION}/"
CARDS = f"{ROOT}artifacts/"
BLOBS = f"{ROOT}blobs/"
RECORDS = f"{ROOT}records/"
PARTS = f"{ROOT}parts/"
STAGING = f"{ROOT}staging/"
DIGEST = re.compile(r"[0-9a-f]{64}")
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.")
LONGEST = 240


def check_digest(digest: str) -> str:
    """Return ``digest``.

    Raises
    ------
    InputError
        It is not 64 lower-case hexadecimal digits.
    """
    if not DIGEST.fullmatch(digest):
        raise InputError(f"{digest!r} is no digest of an artifact: expected SHA-256 as 64 lower-case hexadecimal digits.")
    return digest


def card_key(digest: str) -> str:
    """Return the key of an artifact's card."""
    return f"{CARDS}{check_digest(digest)[:2]}/{digest}.json"


def blob_key(digest: str, generation: str) -> str:
    """Return the key of one upload of an artifact's bytes."""
    return f"{BLOBS}{check_digest(digest)[:2]}/{digest}.{generation}"


def parts_prefix(digest: str, owner: str) -> str:
    """Return what the keys of an interrupted upload's parts start with; ``owner`` is who sends it."""
    return f"{PARTS}{check_digest(digest)[:2]}/{digest}.{encode(owner)}/"


def staging_key(digest: str, owner: str) -> str:
    """Return where an uploader puts a file by itself, to be checked before it becomes an artifact."""
    return f"{STAGING}{check_digest(digest)[:2]}/{digest}.{encode(owner)}"


def digest_of(key: str) -> tuple[str, str]:
    """Return digest and the rest ("json", or a generation) of the key of a card or a blob."""
    digest, _, rest = key.rsplit("/", 1)[1].partition(".")
    return digest, rest


def record_key(collection: str, name: str) -> str:
    """Return the key of a record."""
    return f"{collection_prefix(collection)}{encode(name)}.json"


def collection_prefix(collection: str) -> str:
    """Return what the keys of a collection's records start with."""
    return f"{RECORDS}{encode(collection)}/"


def encode(name: str) -> str:
    """Write a name of any characters as one word of a key; capitals too, for disks that do not tell them apart.

    Raises
    ------
    InputError
        The name is empty, not text in UTF-8, or longer than 240 bytes once written so.
    """
    try:
        data = name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r} is no name: it cannot be written in UTF-8. Use valid text.") from error
    word = "".join(chr(b) if b in PLAIN and not (i == 0 and b == ord(".")) else f"%{b:02x}" for i, b in enumerate(data))
    if not 0 < len(word) <= LONGEST:
        raise InputError(f"{name[:40]!r} takes {len(word)} bytes in a key, expected 1 to {LONGEST}. Choose another name.")
    return word


def decode(word: str) -> str:
    """Return the name that `encode` wrote."""
    return unquote(word, errors="strict")
