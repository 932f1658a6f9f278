"""The C API: bundles refused and opened, engines by number, calls that are cancelled, closed and queued."""

from __future__ import annotations

import ctypes
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from ctypes import byref, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import pytest
from native_cases import BAD_FILE, BAD_INPUT, MISMATCH, NOT_FOUND, UNTRUSTED, Native

from xpert.core.signing import SecretKey
from xpert_mobile.native_library import _STEP, _Text, _text, _texts, load_library

CANCELLED, CLOSED = 15, 16
TRAINING = json.dumps({"max_steps": 100_000, "batch_size": 2, "held_out": 0, "learning_rate": 1e-4, "rank": 4})
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(native: Native) -> ctypes.CDLL:
    return load_library(native.folder / "lib" / "libxpert.so")


@pytest.fixture
def copied(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "copy.xpert"))


@pytest.fixture
def engine(library: ctypes.CDLL, small_bundle: Path) -> Iterator[int]:
    number = opened(library, small_bundle)
    yield number
    assert library.xpert_close(number) == 0


def opened(library: ctypes.CDLL, small_bundle: Path, **options: Any) -> int:
    number = c_uint64()
    assert library.xpert_open(str(small_bundle).encode(), json.dumps(options).encode(), byref(number)) == 0, said(library)
    return number.value


def said(library: ctypes.CDLL) -> str:
    message: bytes = library.xpert_last_error()
    return message.decode()


def answer(library: ctypes.CDLL, name: str, *arguments: Any) -> Any:
    found = c_void_p()
    assert getattr(library, name)(*arguments, byref(found)) == 0, said(library)
    try:
        return json.loads(ctypes.string_at(found.value or 0))
    finally:
        library.xpert_free(found)


def verify(library: ctypes.CDLL, folder: Path, key: str | None = None) -> tuple[int, str]:
    found = c_void_p()
    status = library.xpert_verify(str(folder).encode(), key.encode() if key is not None else None, byref(found))
    assert bool(found.value) == (status == 0)
    library.xpert_free(found)
    return status, said(library)


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def train(library: ctypes.CDLL, engine: int, out: Path, step: Callable[[int], int]) -> int:
    """Train until something ends it; returns the status."""
    texts = [f"Answer {i}: yes, sure." for i in range(4)]
    request = json.dumps({**json.loads(TRAINING), "out": str(out)}).encode()
    told = _STEP(lambda _user, number, *_rest: step(number))
    found = c_void_p()
    status = library.xpert_personalize(
        engine, _texts([None, "Why?", None, "Who?"]), _texts(texts), 4, request, told, None, byref(found)
    )
    library.xpert_free(found)
    return int(status)


class Training(threading.Thread):
    """A run in a thread of its own that has done its first step."""

    def __init__(self, library: ctypes.CDLL, engine: int, out: Path) -> None:
        super().__init__()
        self.started, self.status = threading.Event(), -1
        self._given = (library, engine, out)

    def run(self) -> None:
        self.status = train(*self._given, lambda _: self.started.set() or 0)
        self.started.set()

    def __enter__(self) -> Training:
        self.start()
        assert self.started.wait(60)
        assert self.status == -1, "the run ended by itself"
        return self

    def __exit__(self, *_: object) -> None:
        self.join(60)


def test_a_bundle_is_verified_and_described(library: ctypes.CDLL, small_bundle: Path, engine: int) -> None:
    manifest = json.loads((small_bundle / "manifest.json").read_text())
    report = answer(library, "xpert_verify", str(small_bundle).encode(), None)
    files = manifest["files"]
    assert report == {
        "name": manifest["name"],
        "version": 1,
        "base_digest": manifest["base"]["digest"],
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "n_files": len(files),
        "signed": False,
    }
    described = answer(library, "xpert_describe", engine)
    assert (described["vocabulary"], described["context"], described["lengths"]) == (4112, 128, [32])
    assert (described["base_digest"], described["space_digest"]) == (manifest["base"]["digest"], None)
    assert library.xpert_version() == b"0.1.0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(version="1"), "no version"),
        (lambda m: m.update(format="other"), "format"),
        (lambda m: m.update(minimum_runtime="99.0"), "needs version 99.0"),
        (lambda m: m.update(minimum_runtime="1.x"), "numbers with dots"),
        (lambda m: m["files"].pop("base/tokenizer.json"), "base/tokenizer.json is not listed"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "leads out of it"),
        (lambda m: m["files"].update({"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}), "leads out of it"),
        (lambda m: m["files"].update({"a\\b": {"bytes": 1, "sha256": "0" * 64}}), "leads out of it"),
        (lambda m: m["files"].update({"a//b": {"bytes": 1, "sha256": "0" * 64}}), "leads out of it"),
        (lambda m: m["files"].update({"gone": {"bytes": 1, "sha256": "0" * 64}}), "gone is missing"),
        (lambda m: m["files"]["base/tokenizer.json"].update(sha256="F" * 64), "digest of base/tokenizer.json is none"),
        (lambda m: m["files"]["base/tokenizer.json"].update(sha256="f" * 64), "its digest differs"),
        (lambda m: m["base"].update(tokenizer="other.json"), "other.json is used, and not listed"),
        (lambda m: m["base"]["geometry"].update(n_layers=3), "model.layers.2"),
        (lambda m: m["base"]["geometry"].update(hidden=64), ""),
        (lambda m: m.pop("programs"), "base and programs"),
        (lambda m: m.update(encoder={}), "encoder and space"),
        (lambda m: m.update(base=3), "manifest is broken"),
        (lambda m: m.pop("files"), "manifest is broken"),
        *(
            (lambda m, n=n: m["files"]["programs/generate-s32-r4.pte"].update(bytes=n), "is no whole number")
            for n in (9e47, -1, "9")
        ),
    ],
)
def test_a_changed_manifest_is_refused(
    library: ctypes.CDLL, copied: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    status, message = verify(library, edited(copied, change))
    assert status in (BAD_FILE, MISMATCH), message
    assert reason in message
    number = c_uint64(7)
    assert library.xpert_open(str(copied).encode(), None, byref(number)) == status
    assert number.value == 7


def test_a_changed_cut_added_or_missing_file_is_refused(library: ctypes.CDLL, copied: Path) -> None:
    weights = copied / "base" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + bytes(4))
    assert verify(library, copied)[0] == BAD_FILE
    assert "its digest differs" in said(library)
    weights.write_bytes(data[:-4])
    assert verify(library, copied)[0] == BAD_FILE
    assert "bytes, expected" in said(library)
    weights.write_bytes(data)
    assert verify(library, copied)[0] == 0
    (copied / "stray").symlink_to(copied / "manifest.json")
    assert verify(library, copied)[0] == BAD_FILE
    assert "stray is not listed" in said(library)
    (copied / "stray").unlink()
    (copied / "manifest.json").write_bytes((copied / "manifest.json").read_bytes()[:-9])
    assert verify(library, copied)[0] == BAD_FILE
    (copied / "manifest.json").unlink()
    assert verify(library, copied)[0] == NOT_FOUND


def test_a_mark_stands_in_for_the_weights_digest_until_they_change(library: ctypes.CDLL, copied: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert library.xpert_close(opened(library, copied, work=str(work))) == 0
    (mark,) = work.iterdir()
    weights = copied / "base" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + bytes(4))  # same size, another time
    number = c_uint64()
    options = json.dumps({"work": str(work)}).encode()
    assert library.xpert_open(str(copied).encode(), options, byref(number)) == BAD_FILE
    mark.write_text("what somebody else wrote")
    assert library.xpert_open(str(copied).encode(), options, byref(number)) == BAD_FILE
    weights.write_bytes(data)
    assert library.xpert_close(opened(library, copied, work=str(work))) == 0


def test_a_signature_is_asked_for_where_a_key_is_given(library: ctypes.CDLL, copied: Path) -> None:
    key, other = SecretKey.random(), SecretKey.random()
    assert verify(library, copied, key.public())[0] == UNTRUSTED
    assert "is not signed" in said(library)
    text = (copied / "manifest.json").read_bytes()
    (copied / "manifest.json.minisig").write_text(key.sign(text, comment="small"))
    assert answer(library, "xpert_verify", str(copied).encode(), key.public().encode())["signed"]
    assert verify(library, copied, key.public_file())[0] == 0
    assert verify(library, copied, other.public())[0] == UNTRUSTED
    assert verify(library, copied, "no key")[0] == BAD_INPUT
    assert verify(library, copied, "")[0] == BAD_INPUT
    (copied / "manifest.json").write_bytes(text + b"\n")
    assert verify(library, copied, key.public())[0] == UNTRUSTED
    file, signature = str(copied / "manifest.json").encode(), str(copied / "manifest.json.minisig").encode()
    assert library.xpert_verify_file(file, signature, key.public().encode()) == UNTRUSTED
    (copied / "manifest.json").write_bytes(text)
    assert library.xpert_verify_file(file, signature, key.public().encode()) == 0
    assert library.xpert_verify_file(file, b"gone", key.public().encode()) == UNTRUSTED


@pytest.mark.parametrize("options", [b"[]", b"{", b'{"thread": 1}', b'{"threads": 0}', b'{"threads": "2"}', b'{"work": 3}'])
def test_options_that_do_not_exist_or_fit_are_refused(library: ctypes.CDLL, small_bundle: Path, options: bytes) -> None:
    number = c_uint64()
    assert library.xpert_open(str(small_bundle).encode(), options, byref(number)) == BAD_INPUT
    assert number.value == 0


def test_nothing_at_all_is_refused_and_not_a_crash(library: ctypes.CDLL, engine: int) -> None:
    number, found = c_uint64(), c_void_p()
    assert library.xpert_open(None, None, byref(number)) == BAD_INPUT
    assert library.xpert_verify(None, None, byref(found)) == BAD_INPUT
    assert library.xpert_tokenize(engine, _Text(None, 3), 0, byref(found)) == BAD_INPUT
    assert library.xpert_tokenize(engine, _text("\N{SNOWMAN}"), 0, None) == BAD_INPUT
    assert library.xpert_tokenize(engine, _Text(b"\xff\xfe", 2), 0, byref(found)) == BAD_INPUT
    assert library.xpert_personalize(engine, None, None, 2, b"{}", _STEP(), None, byref(found)) == BAD_INPUT
    assert library.xpert_encode(engine, _texts(["a"]), 1, None) == BAD_INPUT
    assert not found.value
    assert answer(library, "xpert_tokenize", engine, _Text(None, 0), 0) == {"ids": []}


def test_a_bundle_without_an_encoder_says_so(library: ctypes.CDLL, engine: int) -> None:
    vectors = (ctypes.c_float * 10)()
    assert library.xpert_encode(engine, _texts(["a"]), 1, vectors) == MISMATCH
    assert "has no encoder" in said(library)


def test_a_closed_engine_is_an_error_and_closing_twice_is_fine(library: ctypes.CDLL, small_bundle: Path) -> None:
    number, found = opened(library, small_bundle), c_void_p()
    assert library.xpert_close(number) == library.xpert_close(number) == library.xpert_close(0) == 0
    for gone in (number, 0, 2**63):
        assert library.xpert_describe(gone, byref(found)) == CLOSED
        assert library.xpert_cancel(gone) == CLOSED
    assert str(number) in (library.xpert_describe(number, byref(found)), said(library))[1]


def test_messages_are_a_thread_s_own(library: ctypes.CDLL) -> None:
    library.xpert_cancel(12345)
    other: list[str] = []
    thread = threading.Thread(target=lambda: other.append(said(library)))
    thread.start()
    thread.join()
    assert "12345" in said(library)
    assert other == [""]


def test_cancel_ends_the_running_call_only(library: ctypes.CDLL, engine: int, tmp_path: Path) -> None:
    assert library.xpert_cancel(engine) == 0  # nothing runs
    with Training(library, engine, tmp_path / "out") as run:
        assert library.xpert_cancel(engine) == 0
    assert run.status == CANCELLED
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.checkpoint.*")), "what was done is kept"
    assert answer(library, "xpert_tokenize", engine, _text("on"), 0)["ids"]


def test_a_callback_ends_its_call_and_may_not_call_its_engine(library: ctypes.CDLL, engine: int, tmp_path: Path) -> None:
    statuses: list[int] = []

    def step(_: int) -> int:
        found = c_void_p()
        statuses.append(library.xpert_describe(engine, byref(found)))
        return 1

    assert train(library, engine, tmp_path / "out", step) == CANCELLED
    assert statuses == [BAD_INPUT]


def test_close_ends_a_run_in_another_thread_and_calls_behind_it(library: ctypes.CDLL, small_bundle: Path, tmp_path: Path) -> None:
    number = opened(library, small_bundle)
    statuses: list[int] = []

    def ask() -> None:
        found = c_void_p()
        statuses.append(library.xpert_tokenize(number, _text("a"), 0, byref(found)))
        library.xpert_free(found)

    with Training(library, number, tmp_path / "out") as run:
        behind = [threading.Thread(target=ask) for _ in range(4)]
        for thread in behind:
            thread.start()
        assert library.xpert_close(number) == 0
    for thread in behind:
        thread.join(60)
    assert run.status == CANCELLED
    assert statuses == [CLOSED] * 4


def test_a_callback_may_close_its_engine(library: ctypes.CDLL, small_bundle: Path, tmp_path: Path) -> None:
    number = opened(library, small_bundle)
    assert train(library, number, tmp_path / "out", lambda _: int(library.xpert_close(number))) == CANCELLED
    assert library.xpert_cancel(number) == CLOSED


def test_threads_open_ask_and_close_at_once(library: ctypes.CDLL, small_bundle: Path) -> None:
    shared = opened(library, small_bundle)
    expected = answer(library, "xpert_tokenize", shared, _text("one of many"), 1)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(5):
            own = opened(library, small_bundle)
            for number in (own, shared):
                found = answer(library, "xpert_tokenize", number, _text("one of many"), 1)
                if found != expected:
                    wrong.append(found)
            wrong.extend(status for status in (library.xpert_cancel(own), library.xpert_close(own)) if status)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert library.xpert_close(shared) == 0
    assert wrong == []
