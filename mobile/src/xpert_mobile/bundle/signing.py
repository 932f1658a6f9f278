"""Signatures of bundles: one over the manifest, which binds every file."""

from __future__ import annotations

from pathlib import Path

from xpert.core.files import read_bytes, write_atomic
from xpert.core.signing import SecretKey
from xpert_mobile.bundle.manifest import MANIFEST, SIGNATURE, Bundle, read_bundle


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
    text = key.sign(read_bytes(bundle.folder / MANIFEST), comment=comment)
    write_atomic(bundle.folder / SIGNATURE, text.encode())
    return bundle
