"""Texts and settings that the tests of the device runtime share, also in processes of their own."""

from __future__ import annotations

from xpert.core.runtime import PersonalizeOptions
from xpert.core.texts import PersonalText

TEXTS = [
    PersonalText(f"Answer {i}: {'yes, sure' if i % 2 else 'no way'}.", f"Question {i}?" if i % 3 else None) for i in range(8)
]
OPTIONS = PersonalizeOptions(max_steps=12, batch_size=2, rank=4, eval_every=4, learning_rate=5e-3, threads=1, patience=9)
