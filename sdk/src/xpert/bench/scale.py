"""What a catalogue of up to a million pLLMs costs to cut and a phone to use, and what a cell loses against the whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpert.bench.population import N_PROBES, Population, populate
from xpert.bench.record import provenance
from xpert.bench.selection import SIMILARITIES, bank_grid
from xpert.core.abstention import twins
from xpert.core.catalogue import BYTES_A_PLLM, Candidates, Compact, read_compact
from xpert.core.cells import CELL_BYTES, CellIndex, load_cell
from xpert.core.cutting import cut
from xpert.core.encoder import Encoder
from xpert.core.posterior import SHARE_PRIOR, SHARES, centre, mean_noise, posterior
from xpert.core.selection import select
from xpert.core.space import Matrix

SIZES = (100, 1_000, 100_000, 1_000_000)
N_TEXTS = 50
N_CELLS = 8
"""As the client asks for by default."""

USERS = 1000
"""Users a similarity: the standard error of a loss over all of them is about half a point."""

TIMED = 9

Report = Callable[[int, int], object]

BUILD = """
import json, sys
from pathlib import Path
from xpert.bench.scale import build
print(json.dumps(build(Path(sys.argv[1]), Path(sys.argv[2]))))
"""


def run_catalogue_scale(
    encoder: Encoder, *, cache: Path, sizes: Sequence[int] = SIZES, users: int = USERS, progress: Report | None = None
) -> dict[str, Any]:
    """Measure catalogues of several sizes, each built in a process of its own.

    Parameters
    ----------
    encoder
        The default encoder.
    cache
        Folder for the texts' vectors, by content.
    sizes
        Numbers of pLLMs.
    users
        Users a similarity.
    progress
        Called as ``progress(catalogues measured, catalogues in all)``.
    """
    grid, _, words = bank_grid(encoder, cache=cache)
    found = {}
    for done, n in enumerate(sizes):
        found[str(n)] = _measure(populate(grid, n, seed=n), words, encoder.dim - encoder.n_sentence, users)
        if progress:
            progress(done + 1, len(sizes))
    return {
        "benchmark": "catalogue-scale",
        "n_texts": N_TEXTS,
        "n_probes": N_PROBES,
        "users": users * len(SIMILARITIES),
        "cells_asked": N_CELLS,
        "sizes": found,
        **provenance(seed=0),
    }


def build(catalogue: Path, out: Path) -> dict[str, Any]:
    """Cut a compact catalogue into files as a server would serve them; returns times, memory and sizes."""
    from xpert.models.centring import kmeans

    start = perf_counter()
    whole = read_compact(catalogue)
    read = perf_counter()
    cells = cut(whole, kmeans)
    done = perf_counter()
    (out / "index").write_bytes(cells.index)
    sizes = [(out / f"{number}").write_bytes(cells.cell(number)) for number in range(len(cells.members))]
    written = perf_counter()
    return {
        "read_s": round(read - start, 2),
        "build_s": round(done - read, 2),
        "encode_ms_a_cell": round(1000 * (written - done) / len(sizes), 2),
        "peak_mb": _peak_mb(),
        "cells": len(sizes),
        "pllms_a_cell": max(len(rows) for rows in cells.members),
        "copies_a_pllm": round(sum(len(rows) for rows in cells.members) / len(whole.ids), 2),
        "index_bytes": len(cells.index),
        "cell_bytes": max(sizes),
    }


def _peak_mb() -> int:
    """Return the most memory this process has had; what Linux hands on from the process before (ru_maxrss) is left out."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found  # noqa: S101
    return int(found[1]) // 1024


def _measure(population: Population, words: tuple[str, ...], n_statistics: int, users: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="xpert-") as name:
        folder = Path(name)
        path = folder / "whole.xcat.safetensors"
        path.write_bytes(population.compact(words, n_statistics, seed=0))
        command = [sys.executable, "-W", "ignore", "-c", BUILD, str(path), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        built = json.loads(done.stdout.splitlines()[-1])
        index = CellIndex.load(folder / "index")
        compact = read_compact(path)
        whole, keys = _whole(compact, index), compact.ids.view(np.uint64).ravel()
        levels = {f"{100 * s:.0f}": _compared(population, whole, keys, index, folder, s, users) for s in SIMILARITIES}
        timed = _timed(population, whole, folder)
        whole_bytes = path.stat().st_size
    summary = {key: round(float(np.mean([row[key] for row in levels.values()])), 4) for key in next(iter(levels.values()))}
    summary["right_style_lost_error"] = round(summary["right_style_lost_error"] / len(levels) ** 0.5, 4)
    is_whole = len(population.shares) * BYTES_A_PLLM <= N_CELLS * CELL_BYTES
    phone = built["index_bytes"] + (whole_bytes if is_whole else N_CELLS * built["cell_bytes"])
    return {
        **built,
        "whole_bytes": whole_bytes,
        "phone_takes": "whole" if is_whole else "cell",
        "phone_bytes": phone,
        "decoy_bytes": 0 if is_whole else (N_CELLS - 1) * built["cell_bytes"],
        **timed,
        "similarity": levels,
        "mean": summary,
    }


def _whole(found: Compact, index: CellIndex) -> Candidates:
    """Return the whole catalogue for `posterior`, without a name a pLLM."""
    return Candidates(
        base_digest=found.base_digest,
        space_digest=found.space_digest,
        words=found.words,
        names=(),
        coefficients=found.coefficients,
        noise=found.noise,
        base_coefficients=found.base_coefficients,
        base_unexplained=found.base_unexplained,
        n_probes=found.n_probes,
        adapter_bytes=np.zeros(0, np.int64),
        crowd=index.crowd,
    )


def _compared(
    population: Population,
    whole: Candidates,
    keys: NDArray[np.uint64],
    index: CellIndex,
    folder: Path,
    similarity: float,
    users: int,
) -> dict[str, float]:
    """Choose for users from the whole and from their cells."""
    rng = np.random.default_rng(round(100 * similarity))
    cells: dict[int, Candidates] = {}
    noise = mean_noise(whole, N_TEXTS, paired=False)
    metric: NDArray[np.floating] = np.linalg.inv(noise)
    line = whole.coefficients - centre(whole)
    length = ((line @ metric) * line).sum(1)
    del line
    rows = []
    for truth in rng.integers(len(population.shares), size=users):
        texts = population.user(rng, int(truth), similarity=similarity, n_texts=N_TEXTS)
        value = texts.mean(0) - whole.base_coefficients
        best, best_score = _first(value, whole, noise, metric, length)
        number = int(index.nearest(value)[0])
        if number not in cells:
            cells[number] = load_cell(folder / str(number), index, number)
        score, _ = posterior(value, cells[number], noise)
        key = np.frombuffer(bytes.fromhex(cells[number].names[int(score.argmax())]), np.uint64)[0]
        chosen = int(np.flatnonzero(keys == key)[0])
        rows.append((int(truth), best, chosen, best_score - float(score.max())))
    truths, firsts, chosen_, lost = (np.array(column) for column in zip(*rows, strict=True))
    return _figures(population, whole, truths, firsts, chosen_, lost)


def _figures(
    population: Population, whole: Candidates, truth: Matrix, first: Matrix, chosen: Matrix, lost: Matrix
) -> dict[str, float]:
    main = population.shares[:, 1:].argmax(1)
    right, right_cell = main[first] == main[truth], main[chosen] == main[truth]
    near, near_cell = _closeness(population, first, truth), _closeness(population, chosen, truth)
    alike = [_alike(whole, int(a), int(b)) for a, b in zip(first, chosen, strict=True)]
    figures = {
        "right_style_whole": np.mean(right),
        "right_style_cell": np.mean(right_cell),
        "right_style_lost_points": 100 * (np.mean(right) - np.mean(right_cell)),
        "right_style_lost_error": 100 * np.std(right.astype(float) - right_cell) / len(truth) ** 0.5,
        "closeness_whole": np.mean(near),
        "closeness_cell": np.mean(near_cell),
        "closeness_lost_points": 100 * (np.mean(near) - np.mean(near_cell)),
        "right_pllm_whole": np.mean(first == truth),
        "right_pllm_cell": np.mean(chosen == truth),
        "right_pllm_lost_points": 100 * (np.mean(first == truth) - np.mean(chosen == truth)),
        "same_first": np.mean(first == chosen),
        "as_good": np.mean(alike),
        "log_posterior_loss": np.mean(lost),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _closeness(population: Population, chosen: Matrix, truth: Matrix) -> Matrix:
    """Return the cosine of the styles' shares of what was chosen and of what the user writes."""
    a, b = population.shares[chosen], population.shares[truth]
    cosine: Matrix = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return cosine


def _alike(whole: Candidates, first: int, other: int) -> bool:
    """Say whether probes could not tell two pLLMs apart: then one is as good a choice as the other."""
    return bool(twins(replace(whole, coefficients=whole.coefficients[[first, other]]), 0)[1])


def _first(value: Matrix, whole: Candidates, noise: Matrix, metric: NDArray[np.floating], length: Matrix) -> tuple[int, float]:
    """Find the first choice of the whole catalogue and its score; the posterior is reckoned for those that may be it.

    A pLLM's score is at least its term at share 1, and at most that plus what the best of the other shares gives.
    """
    gap = value - centre(whole)
    along = whole.coefficients @ (metric @ gap) - float(centre(whole) @ metric @ gap)
    full = along - length / 2 + np.log(SHARE_PRIOR[-1])
    share = np.clip(along / np.maximum(length, 1e-12), SHARES[0], 1)
    part = share * along - share**2 * length / 2 + np.log(1 - SHARE_PRIOR[-1])
    may = np.flatnonzero(np.logaddexp(full, part) >= full.max())
    score, _ = posterior(value, replace(whole, coefficients=whole.coefficients[may]), noise)
    best = int(score.argmax())
    return int(may[best]), float(score[best])


def _timed(population: Population, whole: Candidates, folder: Path) -> dict[str, float]:
    """Time a phone's choice from files in its cache, and the posterior over the whole catalogue in memory."""
    rng = np.random.default_rng(1)
    by_cell, by_whole = [], []
    noise = mean_noise(whole, N_TEXTS, paired=False)
    for truth in rng.integers(len(population.shares), size=TIMED):
        texts = population.user(rng, int(truth), similarity=0.9, n_texts=N_TEXTS)
        value = texts.mean(0) - whole.base_coefficients
        start = perf_counter()
        index = CellIndex.load(folder / "index")
        number = int(index.nearest(value)[0])
        select(texts, load_cell(folder / str(number), index, number))
        middle = perf_counter()
        posterior(value, whole, noise)
        by_cell.append(middle - start)
        by_whole.append(perf_counter() - middle)
    return {"query_ms": round(1000 * float(np.median(by_cell)), 1), "whole_ms": round(1000 * float(np.median(by_whole)), 1)}
