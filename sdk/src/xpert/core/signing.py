"""Signatures in minisign's format (Ed25519 over a BLAKE2b digest), so that phones and other people's programs can check them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpert.core.errors import FileFormatError, InputError, MissingExtraError, UntrustedError
from xpert.core.files import read_bytes, write_atomic

SUFFIX = ".minisig"
PLAIN, HASHED = b"Ed", b"ED"
"""Marks of keys and of signatures over a digest; minisign's older signatures over whole files are not taken."""

KEY_ID, SEED, SIGNATURE = 8, 32, 64
NO_PASSWORD = bytes(2) + b"B2" + bytes(32 + 8 + 8)
"""What minisign writes into a secret key's file instead of a password's parameters (``minisign -G -W``)."""

OWNER_ONLY = 0o600


@dataclass(frozen=True)
class SecretKey:
    """A key to sign with.

    Attributes
    ----------
    key_id
        Eight bytes by which people tell keys apart.
    seed
        The Ed25519 seed.
    """

    key_id: bytes
    seed: bytes

    @classmethod
    def random(cls) -> SecretKey:
        """Make a new key."""
        return cls(secrets.token_bytes(KEY_ID), secrets.token_bytes(SEED))

    @classmethod
    def read(cls, path: Path) -> SecretKey:
        """Read a secret key's file without a password.

        Raises
        ------
        InputError
            It is protected by a password.
        FileFormatError
            It is no secret key of minisign's.
        """
        data = _decoded(_lines(path, 2)[1], path)
        key = data[2 + len(NO_PASSWORD) :]
        if data[:2] == PLAIN and data[2:4] != bytes(2):
            raise InputError(
                f"The key '{path}' is protected by a password, which is not supported. Make one without: minisign -G -W"
            )
        found = cls(key[:KEY_ID], key[KEY_ID : KEY_ID + SEED])
        if data != found._bytes():
            raise FileFormatError(f"'{path}' is no secret key of minisign's, or was changed. Make one with: xpert mobile keygen")
        return found

    def write(self, path: Path) -> None:
        """Write the key so that minisign reads it too, for its owner's eyes only."""
        text = f"untrusted comment: minisign secret key {self._shown()}\n{base64.b64encode(self._bytes()).decode()}\n"
        write_atomic(path, text.encode(), mode=OWNER_ONLY)

    def public(self) -> str:
        """Return the public key in base64, as it is handed to those who check."""
        return base64.b64encode(PLAIN + self.key_id + self._public()).decode()

    def public_file(self) -> str:
        """Return the text of the public key's file."""
        return f"untrusted comment: minisign public key {self._shown()}\n{self.public()}\n"

    def sign(self, data: bytes, *, comment: str) -> str:
        """Return the text of a signature over ``data``; the comment, one line, is signed with it."""
        if "\n" in comment or "\r" in comment:
            raise InputError("A signature's comment is one line. Leave line breaks out.")
        key = _private(self.seed)
        signature: bytes = key.sign(_hashed(data))
        whole: bytes = key.sign(signature + comment.encode())
        first = base64.b64encode(HASHED + self.key_id + signature).decode()
        return (
            f"untrusted comment: signature from minisign secret key {self._shown()}\n{first}\n"
            f"trusted comment: {comment}\n{base64.b64encode(whole).decode()}\n"
        )

    def _public(self) -> bytes:
        raw: bytes = _private(self.seed).public_key().public_bytes_raw()
        return raw

    def _bytes(self) -> bytes:
        pair = self.seed + self._public()
        check = hashlib.blake2b(PLAIN + self.key_id + pair, digest_size=32).digest()
        return PLAIN + NO_PASSWORD + self.key_id + pair + check

    def _shown(self) -> str:
        return self.key_id[::-1].hex().upper()


def read_public_key(given: str) -> str:
    """Return the text of a public key: ``given`` is its file, or the key itself.

    Raises
    ------
    InputError
        It is neither.
    """
    text = given.strip()
    if "\n" not in text and Path(text).is_file():
        text = read_bytes(Path(text)).decode(errors="replace").strip()
    _public_parts(text)
    return text


def verify_signature(data: bytes, signature: str | None, public_key: str, *, what: str) -> str:
    """Check a signature over ``data`` and return its trusted comment.

    Parameters
    ----------
    data
        What was signed.
    signature
        The signature's text; None: there is none.
    public_key
        Base64, or the key file's text.
    what
        Names the data in messages.

    Raises
    ------
    UntrustedError
        The signature is missing, of another key, or wrong.
    InputError
        The public key cannot be read.
    """
    key_id, key = _public_parts(public_key)
    if signature is None:
        raise UntrustedError(f"{what} is not signed, and a signature was asked for. Get it from its publisher, signed.")
    try:
        lines = signature.splitlines()
        first, comment, whole = base64.b64decode(lines[1], validate=True), lines[2], base64.b64decode(lines[3], validate=True)
        if not comment.startswith("trusted comment: ") or first[:2] != HASHED or len(first) != 2 + KEY_ID + SIGNATURE:
            raise ValueError("it is of another form")
    except (ValueError, IndexError) as error:
        raise UntrustedError(f"The signature of {what} cannot be read: {error}. Get it from its publisher again.") from error
    comment = comment.removeprefix("trusted comment: ")
    if first[2 : 2 + KEY_ID] != key_id:
        raise UntrustedError(f"{what} is signed by another key than the one that is trusted. Do not use it, or trust that key.")
    proof = first[2 + KEY_ID :]
    if not (_is_right(key, proof, _hashed(data)) and _is_right(key, whole, proof + comment.encode())):
        raise UntrustedError(f"The signature of {what} is wrong: it was changed after it was signed. Do not use it.")
    return comment


def verify_file(path: Path, public_key: str) -> str:
    """Check the signature beside a file, which is named as the file with `SUFFIX`, and return its trusted comment.

    Raises
    ------
    UntrustedError
        The signature is missing, of another key, or wrong.
    InputError
        The public key, given as in `read_public_key`, cannot be read.
    """
    beside = path.with_name(path.name + SUFFIX)
    text = read_bytes(beside).decode(errors="replace") if beside.is_file() else None
    return verify_signature(read_bytes(path), text, read_public_key(public_key), what=f"'{path}'")


def _is_right(key: bytes, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _public_parts(text: str) -> tuple[bytes, bytes]:
    try:
        data = base64.b64decode(text.strip().splitlines()[-1], validate=True)
    except (ValueError, IndexError):
        data = b""
    if len(data) != 2 + KEY_ID + SEED or data[:2] != PLAIN:
        raise InputError("The public key cannot be read. Give a minisign public key: its file, or its line in base64 (RW...).")
    return data[2 : 2 + KEY_ID], data[2 + KEY_ID :]


def _hashed(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()


def _private(seed: bytes) -> Any:
    return _ed25519().Ed25519PrivateKey.from_private_bytes(seed)


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("Signatures need: pip install 'xpert[signing]'") from error
    return ed25519


def _lines(path: Path, n: int) -> list[str]:
    lines = read_bytes(path).decode(errors="replace").splitlines()
    if len(lines) < n:
        raise FileFormatError(f"'{path}' has {len(lines)} lines, a key has {n}. Make one with: xpert mobile keygen")
    return lines


def _decoded(line: str, path: Path) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except ValueError as error:
        raise FileFormatError(f"'{path}' is no key: {error}. Make one with: xpert mobile keygen") from error
