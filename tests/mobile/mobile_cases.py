"""What the tests of the device runtime share, also in processes of their own."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from xpert.core.runtime import PersonalizeOptions
from xpert.core.texts import PersonalText

TEXTS = [
    PersonalText(f"Answer {i}: {'yes, sure' if i % 2 else 'no way'}.", f"Question {i}?" if i % 3 else None) for i in range(8)
]
OPTIONS = PersonalizeOptions(max_steps=12, batch_size=2, rank=4, eval_every=4, learning_rate=5e-3, threads=1, patience=9)


@contextmanager
def files_up_to(n_bytes: int) -> Iterator[None]:
    """Let the system itself refuse to write more to a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
