"""Running programs: numpy arrays in, numpy arrays out, on the runtime that comes with ExecuTorch's wheel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpert.core.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

AnyArray = np.ndarray[Any, np.dtype[Any]]


_pool: list[int] = []


class Program:
    """A loaded program.

    Parameters
    ----------
    source
        The program's file, or its bytes.
    threads
        Threads of the process's pool; the first program loaded decides, for the pool must not change under a loaded one.

    Raises
    ------
    FileFormatError
        The file is no program that this runtime can run.
    """

    def __init__(self, source: Path | bytes, *, threads: int) -> None:
        # The wheel's bindings take torch tensors; torch holds the memory here and copies outputs, it computes nothing.
        import torch

        bindings = _bindings()
        self._tensor = torch.from_numpy
        with _silence():
            if not _pool:
                bindings._unsafe_reset_threadpool(threads)
                _pool.append(threads)
            try:
                if isinstance(source, bytes):
                    self._bytes = source  # the runtime keeps no reference of its own
                    self._module = bindings._load_for_executorch_from_buffer(source)
                else:
                    self._module = bindings._load_for_executorch(str(source))
                self._module.method_names()  # a cut file shows itself here
            except RuntimeError as error:
                name = "The export" if isinstance(source, bytes) else f"'{source}'"
                raise FileFormatError(
                    f"{name} is no program that this runtime can run: {error}. Remove it; it is exported again."
                ) from error

    def run(self, method: str, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run a method; the outputs are copies of the caller's own."""
        outputs = self._module.run_method(method, tuple(self._tensor(np.ascontiguousarray(array)) for array in inputs))
        return [output.numpy() for output in outputs]


def _bindings() -> Any:
    """Import the runtime; torch has to be imported before, for its libraries."""
    try:
        # The public module imports the exporter and torchao first: seconds and 220 MB that no program needs.
        from executorch.extension.pybindings import _C
    except ImportError:
        from executorch.extension.pybindings import portable_lib

        return portable_lib
    return _C


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the runtime's native code prints about the processor away from the user."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
