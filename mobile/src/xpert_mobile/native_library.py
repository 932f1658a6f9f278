"""The native core through its C API (mobile/native/include/xpert/xpert.h): texts and JSON in, JSON and numpy arrays out."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.core import errors
from xpert.core.errors import MissingExtraError, XpertError
from xpert.core.files import tools_folder

VARIABLE = "XPERT_NATIVE"
"""Environment variable: folder of a built native core, or its library."""

LIBRARY = "libxpert.so"

CANCELLED = 15
"""Status of a call that its own callback ended."""

OnStep = Callable[[int, int, float, float], None]
OnPiece = Callable[[str], None]


class _Text(ctypes.Structure):
    _fields_ = (("data", c_char_p), ("size", c_size_t))


_STEP = ctypes.CFUNCTYPE(c_int, c_void_p, c_int32, c_int32, c_double, c_double)
_PIECE = ctypes.CFUNCTYPE(c_int, c_void_p, _Text)

_TEXTS, _ANSWER = POINTER(_Text), POINTER(c_void_p)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "xpert_verify": (c_char_p, c_char_p, _ANSWER),
    "xpert_open": (c_char_p, c_char_p, POINTER(c_uint64)),
    "xpert_describe": (c_uint64, _ANSWER),
    "xpert_cancel": (c_uint64,),
    "xpert_close": (c_uint64,),
    "xpert_tokenize": (c_uint64, _Text, c_int32, _ANSWER),
    "xpert_encode": (c_uint64, _TEXTS, c_size_t, POINTER(c_float)),
    "xpert_coefficients": (c_uint64, _TEXTS, c_size_t, POINTER(c_double)),
    "xpert_select": (c_uint64, c_char_p, _TEXTS, _TEXTS, c_size_t, c_char_p, _ANSWER),
    "xpert_personalize": (c_uint64, _TEXTS, _TEXTS, c_size_t, c_char_p, _STEP, c_void_p, _ANSWER),
    "xpert_generate": (c_uint64, _Text, c_char_p, _PIECE, c_void_p, _ANSWER),
}
"""Functions that return a status, and what they take."""


def find_library() -> Path:
    """Find the native core's library: where ``XPERT_NATIVE`` says, else what was built last.

    Raises
    ------
    MissingExtraError
        It is not built.
    """
    given = os.environ.get(VARIABLE)
    if given:
        place = Path(given)
        found = [path for path in (place, place / LIBRARY, place / "lib" / LIBRARY) if path.is_file()]
        if not found:
            raise MissingExtraError(f"{VARIABLE} is '{given}', where there is no {LIBRARY}. Build it with: ./taskw native")
        return found[0]
    tools = tools_folder()
    built = sorted(tools.glob(f"native-*/lib/{LIBRARY}"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise MissingExtraError(
            f"The native core is not built: there is no native-*/lib/{LIBRARY} in '{tools}'. Build it with: ./taskw native, or "
            f"say where it is with {VARIABLE}."
        )
    return built[-1]


@cache
def load_library(path: Path) -> ctypes.CDLL:
    """Load a library and declare its functions.

    Raises
    ------
    MissingExtraError
        It cannot be loaded here.
    """
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int
        library.xpert_version.argtypes, library.xpert_version.restype = (), c_char_p
        library.xpert_last_error.argtypes, library.xpert_last_error.restype = (), c_char_p
        library.xpert_free.argtypes, library.xpert_free.restype = (c_void_p,), None
    except (OSError, AttributeError) as error:
        raise MissingExtraError(f"Cannot load the native core '{path}': {error}. Build it again with: ./taskw native") from error
    return library


class NativeEngine:
    """An opened bundle.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    options
        As `xpert_open` takes them: ``threads``, ``public_key``, ``work``.
    library
        The library; None: the one that `find_library` finds.

    Raises
    ------
    XpertError
        The bundle is refused; of the class that its status stands for.
    """

    def __init__(self, bundle: Path, options: Mapping[str, Any] | None = None, *, library: Path | None = None) -> None:
        self._library = load_library(library or find_library())
        self._handle = c_uint64()
        self._check("xpert_open", str(bundle).encode(), _json(options), byref(self._handle))

    def close(self) -> None:
        """End what runs and free the engine; closing twice is fine."""
        self._check("xpert_close", self._handle)

    def describe(self) -> dict[str, Any]:
        """Return the bundle's name, digests, words and sizes."""
        return self._answer("xpert_describe", self._handle)

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Return the token ids of a text."""
        ids: list[int] = self._answer("xpert_tokenize", self._handle, _text(text), int(add_special))["ids"]
        return ids

    def encode(self, texts: Sequence[str], *, dim: int) -> NDArray[np.float32]:
        """Return the raw vectors of texts, shape (n_texts, dim); dim as `describe` says."""
        vectors = np.zeros((len(texts), dim), np.float32)
        where = vectors.ctypes.data_as(POINTER(c_float))
        self._check("xpert_encode", self._handle, _texts(texts), len(texts), where)
        return vectors

    def coefficients(self, texts: Sequence[str], *, n_axes: int) -> NDArray[np.float64]:
        """Return the coefficients of texts in the bundle's space, shape (n_texts, n_axes)."""
        found = np.zeros((len(texts), n_axes))
        where = found.ctypes.data_as(POINTER(c_double))
        self._check("xpert_coefficients", self._handle, _texts(texts), len(texts), where)
        return found

    def select(self, catalogue: Path, texts: Sequence[str], options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Choose the pLLM of a compact catalogue that is nearest to the texts, or abstain."""
        place = str(catalogue).encode()
        return self._answer("xpert_select", self._handle, place, _texts(texts), None, len(texts), _json(options))

    def personalize(
        self, prompts: Sequence[str | None], texts: Sequence[str], request: Mapping[str, Any], on_step: OnStep | None = None
    ) -> dict[str, Any]:
        """Fine-tune an adapter; what ``on_step`` raises ends the run after a checkpoint, as Ctrl-C does, and is raised again.

        It is called in another thread.
        """
        raised: list[BaseException] = []

        def step(_: object, number: int, n_steps: int, loss: float, held_out: float) -> int:
            return _guarded(raised, lambda: on_step(number, n_steps, loss, held_out) if on_step else None)

        arguments = (_texts(prompts), _texts(texts), len(texts), _json(request), _STEP(step), None)
        return self._interruptible("xpert_personalize", *arguments, raised=raised)

    def generate(self, prompt: str, request: Mapping[str, Any] | None = None, on_piece: OnPiece | None = None) -> dict[str, Any]:
        """Answer a prompt; what ``on_piece`` raises, in another thread, ends the answer, as Ctrl-C does, and is raised again."""
        raised: list[BaseException] = []

        def piece(_: object, text: Any) -> int:
            return _guarded(raised, lambda: on_piece(ctypes.string_at(text.data, text.size).decode()) if on_piece else None)

        return self._interruptible("xpert_generate", _text(prompt), _json(request), _PIECE(piece), None, raised=raised)

    def _interruptible(self, name: str, *arguments: Any, raised: list[BaseException]) -> dict[str, Any]:
        """Call a function with a callback in a thread of its own.

        Python runs signal handlers in its first thread: what they raise on the way into a callback, ctypes drops, and Ctrl-C
        would be lost. In a thread, callbacks hear no signals; the first thread does, at once, while it waits.
        """
        with ThreadPoolExecutor(1) as pool:
            try:
                return pool.submit(self._answer, name, self._handle, *arguments, raised=raised).result()
            except BaseException as error:
                raised.append(error)  # so that the next callback ends the call, for which the pool waits
                raise

    def _answer(self, name: str, *arguments: Any, raised: Sequence[BaseException] = ()) -> dict[str, Any]:
        found = c_void_p()
        self._check(name, *arguments, byref(found), raised=raised)
        try:
            answer: dict[str, Any] = json.loads(ctypes.string_at(found.value or 0))
        finally:
            self._library.xpert_free(found)
        return answer

    def _check(self, name: str, *arguments: Any, raised: Sequence[BaseException] = ()) -> None:
        status = int(getattr(self._library, name)(*arguments))
        if raised:
            raise raised[0]
        if status:
            raise error_of(status, self._library.xpert_last_error().decode(errors="replace"))


def error_of(status: int, message: str) -> XpertError:
    """Return the error that a status of the C API stands for: its number is an exit code of the error tree."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, XpertError)]
    for kind in kinds:
        if kind.exit_code == status:
            return kind(message)
    return XpertError(f"{message} (status {status} of the native core)")


def _guarded(raised: list[BaseException], call: Callable[[], object]) -> int:
    """Run a callback where nothing was raised yet: what it raises cannot pass through C, and is kept."""
    if raised:
        return 1
    try:
        call()
    except BaseException as error:  # KeyboardInterrupt too ends the native call
        raised.append(error)
        return 1
    return 0


def _json(value: Mapping[str, Any] | None) -> bytes | None:
    return None if value is None else json.dumps(value, ensure_ascii=False).encode()


def _text(text: str | None) -> _Text:
    data = None if text is None else text.encode()
    return _Text(data, len(data or b""))


def _texts(texts: Sequence[str | None]) -> Any:
    return (_Text * len(texts))(*(_text(text) for text in texts))
