"""The error tree: every error a user can meet, with a stable code and an exit status.

    XpertError
    ├── InputError            bad_input          exit 3   texts, pairs, options or records that cannot be used
    ├── FileFormatError       bad_file           exit 4   truncated, tampered or foreign file
    │   └── UnsafeFileError   unsafe_file        exit 4   a file that could run code (pickle) is refused unread
    ├── MismatchError         mismatch           exit 5   parts made for different bases, spaces or encoders
    ├── NotFoundError         not_found          exit 6   a path, model or entry that is not there
    ├── MissingExtraError     missing_extra      exit 7   an optional part of the installation is needed
    ├── StorageError          storage            exit 8   disk full, no permission, no server: nothing half-written stays
    ├── TrainingError         training           exit 9   a run that diverged or whose checkpoint does not fit
    ├── ConflictError         conflict           exit 10  another writer was first: read again and decide again
    ├── AccessError           access             exit 11  the server wants a token, or another one
    ├── TooLargeError         too_large          exit 12  more than a limit allows
    ├── UnavailableError      unavailable        exit 13  the server cannot be reached or is busy: try again later
    └── UntrustedError        untrusted          exit 14  a signature is missing or wrong

The code is stable; the wording is free. A message says what failed, what was found against what was expected, and
what to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar


class XpertError(Exception):
    """Base of all errors that XPerT raises on purpose.

    Attributes
    ----------
    code
        Stable identifier for programs.
    exit_code
        Exit status of the command line for this error.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class InputError(XpertError):
    """Texts, pairs, options or records that cannot be used."""

    code = "bad_input"
    exit_code = 3


def check_ranges(values: Mapping[str, tuple[float, ...]]) -> None:
    """Refuse settings out of range.

    Parameters
    ----------
    values
        Name -> (value, smallest) or (value, smallest, largest).

    Raises
    ------
    InputError
        A value is out of range or not finite; the message lists all of them.
    """
    problems = []
    for name, (value, low, *high) in values.items():
        if not (math.isfinite(value) and low <= value <= (high[0] if high else math.inf)):
            problems.append(f"{name} is {value}, expected {f'{low:g} to {high[0]:g}' if high else f'at least {low:g}'}")
    if problems:
        raise InputError(f"Cannot use these settings: {'; '.join(problems)}.")


class FileFormatError(XpertError):
    """A file that is truncated, tampered with or of another format."""

    code = "bad_file"
    exit_code = 4


class UnsafeFileError(FileFormatError):
    """A file that could run code when read, such as a pickled checkpoint; it is refused unread."""

    code = "unsafe_file"


class MismatchError(XpertError):
    """Parts that were made for different base models, style spaces or encoders."""

    code = "mismatch"
    exit_code = 5


class NotFoundError(XpertError):
    """A path, model, word or catalogue entry that does not exist."""

    code = "not_found"
    exit_code = 6


class MissingExtraError(XpertError):
    """An optional part of the installation that this call needs."""

    code = "missing_extra"
    exit_code = 7


class StorageError(XpertError):
    """The disk is full or not writable; nothing half-written stays."""

    code = "storage"
    exit_code = 8


class TrainingError(XpertError):
    """A training run that diverged, or a checkpoint that does not belong to it."""

    code = "training"
    exit_code = 9


class ConflictError(XpertError):
    """A conditional write that came second: what it was decided on has changed; nothing was written."""

    code = "conflict"
    exit_code = 10


class AccessError(XpertError):
    """The server wants a token, or one that may do more."""

    code = "access"
    exit_code = 11


class TooLargeError(XpertError):
    """A body or file beyond what the server takes."""

    code = "too_large"
    exit_code = 12


class UnavailableError(XpertError):
    """The server cannot be reached, is busy, or limits how often one may ask: the same call may succeed later."""

    code = "unavailable"
    exit_code = 13


class UntrustedError(XpertError):
    """A signature that is missing, of another key, or wrong."""

    code = "untrusted"
    exit_code = 14
