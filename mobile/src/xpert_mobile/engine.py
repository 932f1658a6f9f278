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
    path
        The program's file.
    threads
        Threads of the process's pool; the first program loaded decides, for the pool must not change under a loaded one.

    Raises
    ------
    FileFormatError
        The file is no program that this runtime can run.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        # The wheel's bindings take torch tensors; torch does nothing but hold the memory here.
        import torch
        from executorch.extension.pybindings import portable_lib

        self._tensor = torch.from_numpy
        with _silence():
            if not _pool:
                portable_lib._unsafe_reset_threadpool(threads)
                _pool.append(threads)
            try:
                self._module = portable_lib._load_for_executorch(str(path))
                self._module.method_names()  # a cut file shows itself here
            except RuntimeError as error:
                raise FileFormatError(
                    f"'{path}' is no program that this runtime can run: {error}. Remove it; it is exported again."
                ) from error

    def run(self, method: str, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run a method; the outputs are copies of the caller's own."""
        outputs = self._module.run_method(method, tuple(self._tensor(np.ascontiguousarray(array)) for array in inputs))
        return [output.numpy() for output in outputs]


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
