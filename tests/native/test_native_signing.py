"""The phone's verifier (minisign-verify in Rust) agrees with Python's on what is signed, and on what is not."""

from __future__ import annotations

import ctypes
import subprocess

import pytest
from native_cases import tool

from xpert.core.errors import UntrustedError
from xpert.core.signing import SecretKey, verify_signature

DATA = b'{"format": "xpert-bundle"}\n'


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The core's Rust libraries, as they are linked into libxpert."""
    out = tmp_path_factory.mktemp("libraries") / "liblibraries.so"
    archive = ["-Wl,--whole-archive", str(tool("build").Build()._archive()), "-Wl,--no-whole-archive"]
    subprocess.run(["c++", "-shared", "-o", str(out), *archive, "-lpthread", "-ldl", "-lm"], check=True)
    return ctypes.CDLL(str(out))


def accepts(libraries: ctypes.CDLL, public_key: str, signature: str, data: bytes) -> bool:
    given = ctypes.c_char_p(public_key.encode()), ctypes.c_char_p(signature.encode())
    return int(libraries.xpert_lib_verify(*given, ctypes.c_char_p(data), ctypes.c_size_t(len(data)))) == 0


def python_accepts(public_key: str, signature: str, data: bytes) -> bool:
    try:
        verify_signature(data, signature, public_key, what="it")
    except UntrustedError:
        return False
    return True


def test_both_take_what_python_signed_by_either_form_of_the_key(libraries: ctypes.CDLL) -> None:
    for comment in ("", "xpert-bundle starter base 0123", "Ünïcode ✓"):
        key = SecretKey.random()
        signature = key.sign(DATA, comment=comment)
        for public_key in (key.public(), key.public_file()):
            assert accepts(libraries, public_key, signature, DATA)
            assert python_accepts(public_key, signature, DATA)


def test_both_refuse_the_same(libraries: ctypes.CDLL) -> None:
    key, other = SecretKey.random(), SecretKey.random()
    signature = key.sign(DATA, comment="what it is")
    lines = signature.splitlines(keepends=True)
    cases = {
        "changed data": (key.public(), signature, DATA + b" "),
        "another key": (other.public(), signature, DATA),
        "another key under this id": (SecretKey(key.key_id, other.seed).public(), signature, DATA),
        "changed comment": (key.public(), signature.replace("what it is", "what it was"), DATA),
        "another signature's comment": (
            key.public(),
            "".join([*lines[:2], *key.sign(b"", comment="x").splitlines(True)[2:]]),
            DATA,
        ),
        "cut": (key.public(), "".join(lines[:2]), DATA),
        "nothing": (key.public(), "", DATA),
    }
    found = {name: (accepts(libraries, *case), python_accepts(*case)) for name, case in cases.items()}
    assert found == dict.fromkeys(cases, (False, False))
