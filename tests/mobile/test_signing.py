"""Signatures in minisign's format: of files, and of bundles; what was changed or is of another key is refused."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xpert.cli.app import app
from xpert.core.errors import FileFormatError, InputError, NotFoundError, UntrustedError
from xpert.core.signing import SecretKey, read_public_key, verify_signature
from xpert_mobile.bundle.manifest import MANIFEST, SIGNATURE, read_bundle, seal
from xpert_mobile.bundle.signing import sign_bundle

# The example of minisign's documentation: a signature made by another program.
PUBLIC_KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
SIGNED = b"test"
LEGACY = """untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
"""
HASHED = """untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that chooses only, of files whose content is no matter here."""
    folder = tmp_path / "b.xpert"
    (folder / "encoder").mkdir(parents=True)
    for name in ("encoder/encoder.pte", "encoder/tokenizer.json", "space.safetensors"):
        (folder / name).write_bytes(name.encode())
    parts = {"format": "xpert-bundle", "version": 1, "name": "b", "minimum_runtime": "0.1.0"}
    encoder = {"program": "encoder/encoder.pte", "tokenizer": "encoder/tokenizer.json"}
    (folder / MANIFEST).write_bytes(seal(folder, {**parts, "encoder": encoder, "space": {"file": "space.safetensors"}}))
    return folder


def test_a_signature_of_minisign_s_own_is_right_and_an_older_form_is_not_taken() -> None:
    assert verify_signature(SIGNED, HASHED, PUBLIC_KEY, what="it") == "timestamp:1556193335\tfile:test"
    with pytest.raises(UntrustedError, match="another form"):
        verify_signature(SIGNED, LEGACY, PUBLIC_KEY, what="it")


def test_a_changed_text_comment_or_signature_and_another_key_are_refused() -> None:
    key, other = SecretKey.random(), SecretKey.random()
    text = key.sign(b"data", comment="what it is")
    assert verify_signature(b"data", text, key.public(), what="it") == "what it is"
    assert verify_signature(b"data", text, key.public_file(), what="it") == "what it is"
    with pytest.raises(UntrustedError, match="was changed"):
        verify_signature(b"Data", text, key.public(), what="it")
    with pytest.raises(UntrustedError, match="was changed"):
        verify_signature(b"data", text.replace("what it is", "what it was"), key.public(), what="it")
    with pytest.raises(UntrustedError, match="another key"):
        verify_signature(b"data", text, other.public(), what="it")
    forged = SecretKey(key.key_id, other.seed).sign(b"data", comment="what it is")
    with pytest.raises(UntrustedError, match="was changed"):
        verify_signature(b"data", forged, key.public(), what="it")
    with pytest.raises(UntrustedError, match="not signed"):
        verify_signature(b"data", None, key.public(), what="it")
    for broken in ("", "a\nb", text[: len(text) // 2], text.replace("=", "!")):
        with pytest.raises(UntrustedError):
            verify_signature(b"data", broken, key.public(), what="it")


def test_a_key_comes_back_from_its_file_which_is_its_owner_s_alone(tmp_path: Path) -> None:
    key, path = SecretKey.random(), tmp_path / "key"
    key.write(path)
    assert SecretKey.read(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = path.read_text().splitlines()
    data = bytearray(base64.b64decode(second))
    data[60] ^= 1
    path.write_text(f"{first}\n{base64.b64encode(data).decode()}\n")
    with pytest.raises(FileFormatError, match="was changed"):
        SecretKey.read(path)
    data[2:4] = b"Sc"
    path.write_text(f"{first}\n{base64.b64encode(data).decode()}\n")
    with pytest.raises(InputError, match="password"):
        SecretKey.read(path)
    path.write_text("one line")
    with pytest.raises(FileFormatError, match="1 lines"):
        SecretKey.read(path)
    with pytest.raises(NotFoundError):
        SecretKey.read(tmp_path / "none")
    with pytest.raises(InputError, match="public key"):
        read_public_key("RWnothing")
    with pytest.raises(InputError, match="one line"):
        key.sign(b"", comment="a\nb")


def test_a_signed_bundle_is_trusted_until_its_manifest_changes(bundle: Path) -> None:
    key = SecretKey.random()
    assert not sign_bundle(bundle, key).signed
    assert read_bundle(bundle, public_key=key.public()).signed
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "name": "c"}))
    assert read_bundle(bundle).manifest["name"] == "c"
    with pytest.raises(UntrustedError, match="was changed"):
        read_bundle(bundle, public_key=key.public())
    (bundle / SIGNATURE).unlink()
    with pytest.raises(UntrustedError, match="not signed"):
        read_bundle(bundle, public_key=key.public())
    (bundle / "space.safetensors").write_bytes(b"another")
    with pytest.raises(FileFormatError):
        sign_bundle(bundle, key)
    assert not (bundle / SIGNATURE).exists()


def test_keys_signing_and_checking_on_the_command_line(bundle: Path, tmp_path: Path) -> None:
    run = CliRunner()
    key = tmp_path / "k"
    made = run.invoke(app, ["mobile", "keygen", "-o", str(key), "--json"])
    public = json.loads(made.stdout)["public_key"]
    assert (tmp_path / "k.pub").read_text().splitlines()[1] == public
    assert isinstance(run.invoke(app, ["mobile", "keygen", "-o", str(key)]).exception, InputError)
    unsigned = run.invoke(app, ["mobile", "verify", str(bundle), "--public-key", public])
    assert isinstance(unsigned.exception, UntrustedError)
    assert unsigned.exception.exit_code == 14
    assert run.invoke(app, ["mobile", "sign", str(bundle), "--key", str(key)]).exit_code == 0
    for given in (public, str(tmp_path / "k.pub")):
        checked = run.invoke(app, ["mobile", "verify", str(bundle), "--public-key", given, "--json"])
        assert json.loads(checked.stdout)["signed"] is True
    shown = run.invoke(app, ["mobile", "inspect", str(bundle), "--json"])
    assert json.loads(shown.stdout)["name"] == "b"
