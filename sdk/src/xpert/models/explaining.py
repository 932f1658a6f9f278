"""From adapters to explanations: probe, encode, decompose; what a server does for every pLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xpert.core.data import probes as default_probes
from xpert.core.encoder import Encoder
from xpert.core.explanation import Explanation, explain_pairs
from xpert.core.space import StyleSpace
from xpert.models.base import BaseModel
from xpert.models.probing import BASE, GenerationSettings, Progress, answer_probes


def explain_adapters(
    base: BaseModel,
    adapters: Mapping[str, str | Path],
    *,
    space: StyleSpace,
    encoder: Encoder,
    probes: Sequence[str] | None = None,
    settings: GenerationSettings | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[Explanation], dict[str, list[str]]]:
    """Explain adapters of one base in words.

    Parameters
    ----------
    base
        The base model.
    adapters
        Name of a pLLM -> its adapter: a folder, ``starter:NAME`` or a hub name.
    space, encoder
        The style space and the encoder it was made for.
    probes
        Prompts to ask; by default the 40 of the StyleBank that no default axis has seen.
    settings, cache, progress
        See `xpert.models.probing.answer_probes`.

    Returns
    -------
    explanations
        One a pLLM, in the order given.
    answers
        Name -> answers to the probes; the base's own under ``""``.

    Raises
    ------
    MismatchError
        An adapter belongs to another base, or the encoder to another space.
    """
    space.check_encoder(encoder)
    asked = list(probes or default_probes())
    loaded = {name: base.adapter(source) for name, source in adapters.items()}
    answers = answer_probes(base, loaded, asked, settings=settings, cache=cache, progress=progress)
    plain = encoder.encode(answers[BASE])
    explanations = [
        explain_pairs(
            name,
            plain,
            encoder.encode(answers[name]),
            space,
            base_digest=base.digest,
            adapter_digest=adapter.digest,
            adapter_bytes=adapter.n_bytes,
        )
        for name, adapter in loaded.items()
    ]
    return explanations, answers
