"""Signed adapters: a third file beside the two of PEFT's format, which a server keeps and hands out as it does those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xpert.client.cache import file_sha256
from xpert.core.errors import NotFoundError, UntrustedError
from xpert.core.files import ADAPTER_FILES, read_json, write_json
from xpert.core.signing import SecretKey, verify_signature

FILE = "xpert_signature.json"
FORMAT, VERSION = "xpert-signature", 1

SIGNED = ADAPTER_FILES
"""What a signature is over; the weights name their base, so that it is bound too."""


def write_signature(folder: Path, out: Path, key: SecretKey) -> Path:
    """Sign the adapter in ``folder``, write the signature's file into the folder ``out`` and return it."""
    comment = f"xpert-adapter {file_sha256(folder / SIGNED[1])[:12]}"  # no date: the same adapter gives the same file
    text = key.sign(_statement(folder), comment=comment)
    write_json(out / FILE, {"format": FORMAT, "version": VERSION, "signature": text})
    return out / FILE


def check_adapter(folder: Path, files: Mapping[str, str], public_key: str, *, name: str) -> None:
    """Check that an adapter is signed by a key.

    Parameters
    ----------
    folder, files
        Where the adapter lies, and its files by name: no others are looked at, nor may there be any but those that are signed.
    public_key
        Minisign's, base64 or the key file's text.
    name
        The pLLM's, for messages.

    Raises
    ------
    UntrustedError
        The signature is missing, of another key, or wrong.
    FileFormatError
        The signature's file is broken.
    """
    what = f"The adapter of '{name}'"
    foreign = sorted(set(files) - {FILE, *SIGNED})
    if foreign:
        raise UntrustedError(f"{what} holds {', '.join(foreign)}, which no signature covers. Get it from its publisher, signed.")
    try:
        text = str(read_json(folder / FILE, format=FORMAT, max_version=VERSION).get("signature")) if FILE in files else None
    except NotFoundError:
        text = None
    verify_signature(_statement(folder), text, public_key, what=what)


def _statement(folder: Path) -> bytes:
    """Return what is signed: a line a file, as sha256sum prints it."""
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in SIGNED).encode()
