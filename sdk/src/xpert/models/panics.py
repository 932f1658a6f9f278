"""Libraries written in Rust: what they cannot go on from is no `Exception`, so that nothing that handles errors would see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise ValueError for a panic in the block, such as tokenizers has on some broken files.

    PyO3 derives PanicException from BaseException and offers no way to import it.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from error
