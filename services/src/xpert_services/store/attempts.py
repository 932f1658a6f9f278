"""Repeating what another writer was first with: not at once, and not forever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from xpert.core.errors import ConflictError

# Of any number of writers one succeeds each time; with the pauses that is half a minute of never being the one.
N_ATTEMPTS = 300
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.2


def attempts() -> Iterator[AbstractContextManager[None]]:
    """Yield blocks for a conditional write: a lost one is passed over and followed by another block after a pause.

    Raises
    ------
    ConflictError
        In the last block: other writers were first every time.
    """
    pause = FIRST_PAUSE
    for n_left in reversed(range(N_ATTEMPTS)):
        yield _attempt(n_left)
        # The pause lets those that lost not all try again at once.
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def _attempt(n_left: int) -> Iterator[None]:
    try:
        yield
    except ConflictError as error:
        if not n_left:
            raise ConflictError(f"Other writers were first {N_ATTEMPTS} times, try again when fewer write: {error}") from error
