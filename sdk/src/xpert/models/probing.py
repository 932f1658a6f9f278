"""Answers of the base and of many pLLMs to the same probes: in mixed batches, cached by content, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from xpert.core.errors import FileFormatError, InputError
from xpert.core.files import read_json, sha256_hex, write_json
from xpert.models.adapters import Adapter
from xpert.models.base import BaseModel
from xpert.models.prompting import prompt_ids

FORMAT = "xpert-answers"
BASE = ""
"""Name of the base's own answers."""

STORE_EVERY = 32
"""Answers between two writes to the cache."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How answers are generated: greedily, so that they do not depend on the batch they were made in.

    Attributes
    ----------
    max_new_tokens
        Longest answer.
    max_rows
        Most answers generated at a time; bounds the memory.
    """

    max_new_tokens: int = 160
    max_rows: int = 256


@dataclass(frozen=True)
class _Row:
    """One answer to make: which pLLM, which probe."""

    pllm: str
    probe: int


def answer_probes(
    base: BaseModel,
    adapters: Mapping[str, Adapter],
    probes: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, list[str]]:
    """Answer every probe with the base and with every pLLM.

    All of them share the base's weights in one batch; each row adds its own adapter's low-rank update. What is in ``cache``
    is not made again, and what is made goes there a few dozen answers at a time, so that a run that was cut off goes on.

    Parameters
    ----------
    base
        The base model.
    adapters
        Name of a pLLM -> its adapter, as of ``base.adapter(…)``.
    probes
        The prompts.
    settings
        How to generate.
    cache
        Folder for the answers, by digest of base, adapter, probes and settings.
    progress
        Called as ``progress(answers done, answers in all)``.

    Returns
    -------
    dict
        Name -> answers in the order of ``probes``; the base's own under ``""``.

    Raises
    ------
    InputError
        There are no probes, or one does not fit the model's context.
    """
    settings = settings or GenerationSettings()
    ids = [prompt_ids(base.tokenizer, probe) for probe in probes]
    _check_probes(base, probes, ids, settings)
    sources: dict[str, Adapter | None] = {BASE: None, **adapters}
    keys = {name: _key(base, adapter, ids, settings) for name, adapter in sources.items()}
    answers = {name: _cached(cache, keys[name], len(probes)) for name in sources}
    total = len(sources) * len(probes)
    done = sum(answer is not None for row in answers.values() for answer in row)
    fresh: set[str] = set()

    def store() -> None:
        while fresh:
            name = fresh.pop()
            _store(cache, keys[name], answers[name])

    # Rows of one adapter stand together: its update is then one product a module.
    rows = [_Row(name, i) for name in sources for i, answer in enumerate(answers[name]) if answer is None]
    for start in range(0, len(rows), settings.max_rows):
        batch = rows[start : start + settings.max_rows]
        with closing(_generate(base, sources, batch, ids, settings)) as finished:
            try:
                for n, (row, text) in enumerate(finished, 1):
                    answers[row.pllm][row.probe] = text
                    fresh.add(row.pllm)
                    if n % STORE_EVERY == 0:
                        store()
                    if progress:
                        progress(done + n, total)
            finally:
                store()
        done += len(batch)
    return {name: [text or "" for text in row] for name, row in answers.items()}


def answers_key(
    base: BaseModel, adapter: Adapter | None, probes: Sequence[str], *, settings: GenerationSettings | None = None
) -> str:
    """Return the name, without ``.json``, of the answers' file in a cache; empty for an adapter that is not stored yet.

    Parameters
    ----------
    base, adapter
        Whose answers; no adapter: the base's own.
    probes, settings
        As of `answer_probes`.
    """
    return _key(base, adapter, [prompt_ids(base.tokenizer, probe) for probe in probes], settings or GenerationSettings())


@torch.inference_mode()
def _generate(
    base: BaseModel,
    sources: Mapping[str, Adapter | None],
    rows: Sequence[_Row],
    ids: Sequence[Sequence[int]],
    settings: GenerationSettings,
) -> Generator[tuple[_Row, str]]:
    """Answer all rows together; yields each as soon as it has ended."""

    def decode(i: int) -> str:
        return str(tokenizer.decode(made[i], skip_special_tokens=True)).strip()

    model, tokenizer = base.model, base.tokenizer
    ends = _end_tokens(base)
    width = max(len(ids[row.probe]) for row in rows)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, width - len(ids[row.probe]) :] = torch.tensor(ids[row.probe])
        mask[i, width - len(ids[row.probe]) :] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    alive = list(range(len(rows)))
    made: list[list[int]] = [[] for _ in rows]
    past = DynamicCache()
    with _adapters(base, sources) as use:
        for _ in range(settings.max_new_tokens):
            use([rows[i].pllm for i in alive])
            out = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            following = out.logits[:, -1].argmax(-1)
            keep = []
            for j, token in enumerate(following.tolist()):
                if token not in ends:
                    made[alive[j]].append(token)
                    keep.append(j)
                else:
                    yield rows[alive[j]], decode(alive[j])
            alive = [alive[j] for j in keep]
            if not alive:
                break
            if len(keep) < len(following):
                index = torch.tensor(keep, device=model.device)
                past.batch_select_indices(index)
                following, mask, positions = following[index], mask[index], positions[index]
            tokens = following[:, None]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            positions = positions[:, -1:] + 1
    for i in alive:
        yield rows[i], decode(i)


@contextmanager
def _adapters(base: BaseModel, sources: Mapping[str, Adapter | None]) -> Iterator[Callable[[Sequence[str]], None]]:
    """Let each row of a batch run through its own adapter; yields the function that says which row is whose."""
    spans: list[tuple[str, int, int]] = []

    def use(owners: Sequence[str]) -> None:
        spans.clear()
        start = 0
        for i in range(1, len(owners) + 1):
            if i == len(owners) or owners[i] != owners[start]:
                spans.append((owners[start], start, i))
                start = i

    handles = []
    try:
        for name in sorted({m for a in sources.values() if a for m in a.modules}):
            linear = base.model.get_submodule(name)
            factors = {
                owner: _factors(adapter, name, linear.weight)
                for owner, adapter in sources.items()
                if adapter and name in adapter.modules
            }
            handles.append(linear.register_forward_hook(_hook(factors, spans)))
        yield use
    finally:
        for handle in handles:
            handle.remove()


def _factors(adapter: Adapter, name: str, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    pair = adapter.modules[name]
    down = torch.from_numpy(pair.A).T.to(weight).contiguous()
    up = (torch.from_numpy(pair.B) * pair.scaling).T.to(weight).contiguous()
    return down, up


def _hook(factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], spans: Sequence[tuple[str, int, int]]) -> Any:
    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        for owner, start, end in spans:
            if owner in factors:
                down, up = factors[owner]
                output[start:end] += (inputs[0][start:end] @ down) @ up
        return output

    return add


def _end_tokens(base: BaseModel) -> set[int]:
    ends = base.model.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return {end for end in (*listed, base.tokenizer.eos_token_id) if end is not None}


def _check_probes(base: BaseModel, probes: Sequence[str], ids: Sequence[Sequence[int]], settings: GenerationSettings) -> None:
    if not probes or not all(probe.strip() for probe in probes):
        raise InputError(f"{len(probes)} probes, some of them empty: expected at least one, each with text.")
    room = int(getattr(base.model.config, "max_position_embeddings", 2**31)) - settings.max_new_tokens
    longest = max(range(len(ids)), key=lambda i: len(ids[i]))
    if len(ids[longest]) > room:
        raise InputError(
            f"Probe {longest + 1} has {len(ids[longest])} tokens; with {settings.max_new_tokens} for the answer at most {room} "
            f"fit into '{base.name}'. Shorten it, or allow shorter answers."
        )


def _key(base: BaseModel, adapter: Adapter | None, ids: Sequence[Sequence[int]], settings: GenerationSettings) -> str:
    if adapter is not None and not adapter.digest:
        return ""  # not stored yet, so nothing to know it by
    limits = {key: value for key, value in asdict(settings).items() if key != "max_rows"}
    # The ids stand for the prompts: the chat template and the tokenizer are not part of the base's digest.
    parts = [base.digest, str(base.model.dtype), adapter.digest if adapter else "", [list(row) for row in ids], limits]
    return sha256_hex(json.dumps(parts, ensure_ascii=False).encode())


def _cached(cache: Path | None, key: str, n_probes: int) -> list[str | None]:
    path = cache / f"{key}.json" if cache and key else None
    if path is None or not path.exists():
        return [None] * n_probes
    try:
        found = read_json(path, format=FORMAT, max_version=1).get("answers")
    except FileFormatError:
        return [None] * n_probes  # a cache is made again rather than complained about
    fits = isinstance(found, list) and len(found) == n_probes and all(a is None or isinstance(a, str) for a in found)
    return found if fits and found is not None else [None] * n_probes


def _store(cache: Path | None, key: str, answers: Sequence[str | None]) -> None:
    if cache and key:
        write_json(cache / f"{key}.json", {"format": FORMAT, "version": 1, "answers": list(answers)})
