"""From logits to words: what is drawn, and what of a growing text is given out; no model is needed."""

from __future__ import annotations

import numpy as np
from native_cases import Native


def test_draws_follow_the_logits(native: Native) -> None:
    logits, n = [1.0, 3.0, 2.0, 3.0, -5.0], 20_000
    softmax = np.exp(np.array(logits) / 0.7) / np.exp(np.array(logits) / 0.7).sum()
    counts = np.array(native.call("engine.sample", logits=logits, temperature=0.7, n=n))
    assert np.abs(counts / n - softmax).max() < 0.015
    assert native.call("engine.sample", logits=logits, n=5) == [0, 5, 0, 0, 0]
    top = native.call("engine.sample", logits=logits, temperature=0.7, top_k=2, n=n)
    assert (top[0], top[2], top[4]) == (0, 0, 0)
    assert abs(top[1] / n - 0.5) < 0.015
    nucleus = native.call("engine.sample", logits=logits, temperature=0.7, top_p=0.4, n=100)
    assert nucleus == [0, 100, 0, 0, 0]


def test_text_comes_in_whole_characters_and_without_stop_words(native: Native) -> None:
    bird = "Eule 🦉"
    found = native.call("engine.stream", texts=[" Eu", " Eule ", " Eule �", f" {bird}", f" {bird} und", f" {bird} und\n"])
    assert found == {"pieces": ["Eu", "le", " 🦉", " und"], "text": f"{bird} und", "stopped": False}
    cut = native.call("engine.stream", texts=["Ja", "Ja E", "Ja EN", "Ja END", "Ja END?"], stop=["END"])
    assert cut == {"pieces": ["Ja"], "text": "Ja", "stopped": True}
    kept = native.call("engine.stream", texts=["Ja E", "Ja EN", "Ja ENE"], stop=["END"])
    assert kept["text"] == "Ja ENE"
