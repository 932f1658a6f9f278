"""From adapters to explanations: probe, encode, decompose; what a server does for every pLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xpert.core.data import probes as default_probes
from xpert.core.encoder import Encoder
from xpert.core.explanation import Explanation, explain_pairs
from xpert.core.space import StyleSpace
from xpert.models.adapters import Adapter
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
    return explain_answers(base, loaded, answers, space=space, encoder=encoder), answers


def explain_answers(
    base: BaseModel, adapters: Mapping[str, Adapter], answers: Mapping[str, Sequence[str]], *, space: StyleSpace, encoder: Encoder
) -> list[Explanation]:
    """Explain adapters from what was answered to the probes: the second half of `explain_adapters`.

    Parameters
    ----------
    base, adapters
        The base model, and name of a pLLM -> its loaded adapter.
    answers
        Name -> answers to the probes; the base's own under ``""``.
    space, encoder
        The style space and the encoder it was made for.

    Returns
    -------
    list of Explanation
        One a pLLM, in the order given.

    Raises
    ------
    MismatchError
        The encoder belongs to another space.
    """
    space.check_encoder(encoder)
    plain = encoder.encode(answers[BASE])
    return [
        explain_pairs(
            name,
            plain,
            encoder.encode(answers[name]),
            space,
            base_digest=base.digest,
            adapter_digest=adapter.digest,
            adapter_bytes=adapter.n_bytes,
        )
        for name, adapter in adapters.items()
    ]
