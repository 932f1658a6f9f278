"""Signatures of bundles: one over the manifest, which binds every file."""

from __future__ import annotations

from pathlib import Path

from xpert.core.files import read_bytes, write_atomic
from xpert.core.signing import SUFFIX, SecretKey, read_public_key, verify_signature
from xpert_mobile.bundle.manifest import MANIFEST, Bundle, read_bundle


def sign_bundle(folder: Path, key: SecretKey) -> Bundle:
    """Check a bundle whole, sign its manifest, and return it; another signature there is replaced.

    Raises
    ------
    FileFormatError
        The bundle is cut or changed: nothing is signed.
    """
    bundle = read_bundle(folder)
    base = bundle.manifest.get("base", {})
    comment = f"xpert-bundle {bundle.manifest['name']} base {str(base.get('digest', 'none'))[:12]}"
    manifest = Path(folder) / MANIFEST
    text = key.sign(read_bytes(manifest), comment=comment)
    write_atomic(manifest.with_name(manifest.name + SUFFIX), text.encode())
    return bundle


def check_signature(path: Path, public_key: str) -> str:
    """Check the signature beside a file and return its trusted comment.

    Raises
    ------
    UntrustedError
        It is missing, of another key, or wrong.
    """
    beside = path.with_name(path.name + SUFFIX)
    text = read_bytes(beside).decode(errors="replace") if beside.is_file() else None
    return verify_signature(read_bytes(path), text, read_public_key(public_key), what=f"'{path}'")
