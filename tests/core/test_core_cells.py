"""Cells: every pLLM is in one, each is small, and selection over one is selection over the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells_cases import evenly, whole_of

from xpert.core.catalogue import Catalogue, Compact, read_compact
from xpert.core.cells import CELL_BYTES, CellIndex, cell_capacity, load_cell
from xpert.core.cutting import OVERLAP, Cells, cut
from xpert.core.errors import FileFormatError, InputError, MismatchError, NotFoundError
from xpert.core.files import read_safetensors, write_safetensors
from xpert.core.posterior import SHARE_PRIOR, SHARES, centre, mean_noise, posterior
from xpert.core.selection import select
from xpert.models.centring import kmeans


def written(cells: Cells, folder: Path, number: int = 0) -> tuple[CellIndex, Path]:
    (folder / "index").write_bytes(cells.index)
    (folder / "cell").write_bytes(cells.cell(number))
    return CellIndex.load(folder / "index"), folder / "cell"


@pytest.mark.parametrize("n_words", [24, 46])
def test_every_pllm_is_in_a_cell_and_all_cells_are_full_and_small(n_words: int) -> None:
    whole = whole_of(9000, n_words=n_words)
    cells = cut(whole, kmeans)
    capacity = cell_capacity(n_words)
    assert {len(rows) for rows in cells.members} == {capacity}
    assert all(len(np.unique(rows)) == capacity for rows in cells.members)
    assert np.array_equal(np.unique(np.concatenate(cells.members)), np.arange(9000))
    assert len(cells.members) >= OVERLAP * 9000 / capacity
    sizes = {len(cells.cell(number)) for number in range(len(cells.members))}
    assert CELL_BYTES - 2048 < max(sizes) <= CELL_BYTES
    assert len(cells.index) < 10_000


def test_a_small_catalogue_is_one_cell(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.export_compact(tmp_path / "compact")
    whole = read_compact(tmp_path / "compact")
    index, path = written(cut(whole, kmeans), tmp_path)
    cell = load_cell(path, index, 0)
    assert (index.n_pllms, index.words, index.base_digest) == (5, catalogue.words, catalogue.base_digest)
    assert cell.names == whole.candidates.names
    assert np.array_equal(cell.adapter_bytes, whole.candidates.adapter_bytes)
    assert np.allclose(cell.coefficients, whole.coefficients, atol=np.ptp(whole.coefficients, axis=0).max() / 254)
    assert np.allclose(centre(cell), centre(whole.candidates), atol=1e-6)
    assert np.allclose(cell.noise, whole.noise)


def test_centres_that_lie_on_one_heap_are_halved_until_all_fit() -> None:
    whole = whole_of(500)
    cells = cut(whole, lambda points, n: np.zeros((n, points.shape[1]), np.float32), capacity=40)
    assert max(len(rows) for rows in cells.members) <= 40
    assert len(np.unique(np.concatenate(cells.members))) == 500
    same = Compact(**{**vars(whole), "coefficients": np.ones((500, 24))})
    assert len(np.unique(np.concatenate(cut(same, kmeans, capacity=40).members))) == 500


def test_selection_over_the_cell_is_selection_over_the_whole(tmp_path: Path) -> None:
    whole = whole_of(3000)
    cells, candidates = cut(whole, kmeans, capacity=400), whole.candidates
    rng = np.random.default_rng(1)
    same = []
    for truth in rng.integers(3000, size=40):
        texts = whole.coefficients[truth] + whole.base_coefficients + rng.normal(0, 0.05, (30, 24))
        value = texts.mean(0) - whole.base_coefficients
        (tmp_path / "index").write_bytes(cells.index)
        index = CellIndex.load(tmp_path / "index")
        number = int(index.nearest(value)[0])
        _, path = written(cells, tmp_path, number)
        cell = load_cell(path, index, number)
        noise = mean_noise(candidates, 30, paired=False)
        full, part = posterior(value, candidates, noise)[0], posterior(value, cell, noise)[0]
        rows = cells.members[number]
        likely = full[rows] > full.max() - 3  # those that a choice is between
        assert np.allclose(part[likely], full[rows][likely], atol=0.3)
        same.append(select(texts, cell).matches[0].name == select(texts, candidates).matches[0].name)
    assert np.mean(same) > 0.9


def test_the_posterior_is_what_its_definition_says() -> None:
    candidates = whole_of(50).candidates
    value = np.random.default_rng(2).normal(0, 0.2, 24)
    noise = mean_noise(candidates, 20, paired=True)
    gap = (value - centre(candidates)) - (candidates.coefficients - centre(candidates))[:, None] * SHARES[None, :, None]
    log = -0.5 * np.einsum("sak,kl,sal->sa", gap, np.linalg.inv(noise), gap) + np.log(SHARE_PRIOR)
    score, share = posterior(value, candidates, noise)
    assert np.allclose(score, np.logaddexp.reduce(log, axis=1))
    assert np.allclose(share, np.exp(log - score[:, None]) @ SHARES)


def test_a_cell_belongs_to_its_index(tmp_path: Path) -> None:
    cells = cut(whole_of(500), evenly, capacity=40)
    index, path = written(cells, tmp_path, 3)
    assert len(load_cell(path, index, 3).names) == 40
    with pytest.raises(MismatchError, match="expected cell 4"):
        load_cell(path, index, 4)
    (tmp_path / "other").mkdir()
    other, _ = written(cut(whole_of(500, seed=1), evenly, capacity=40), tmp_path / "other")
    with pytest.raises(MismatchError, match="Fetch the index again"):
        load_cell(path, other, 3)
    assert cells.named(index.cell_name(3)) == path.read_bytes()
    for wrong in (other.cell_name(3), f"{index.digest[:16]}-9999", f"{index.digest[:16]}-x"):
        with pytest.raises(NotFoundError, match="Fetch the index again"):
            cells.named(wrong)


@pytest.mark.parametrize("name", ["coefficients", "middle", "ids", "kib"])
def test_a_changed_cell_is_refused(tmp_path: Path, name: str) -> None:
    index, path = written(cut(whole_of(500), evenly, capacity=40), tmp_path)
    arrays, metadata = read_safetensors(path)
    arrays[name] = arrays[name][::-1].copy()
    write_safetensors(path, arrays, metadata)
    with pytest.raises(FileFormatError, match="changed after it was written"):
        load_cell(path, index, 0)
    with pytest.raises(FileFormatError, match="not a file of format"):
        CellIndex.load(path)


def test_only_coefficients_of_the_space_find_a_cell(tmp_path: Path) -> None:
    whole = whole_of(500)
    index, _ = written(cut(whole, evenly, capacity=40), tmp_path)
    assert len(set(index.nearest(whole.coefficients))) > 10
    with pytest.raises(MismatchError, match="24 words"):
        index.nearest(np.zeros(23))
    with pytest.raises(InputError, match="NaN"):
        index.nearest(np.full(24, np.nan))


def test_a_pllm_is_found_by_its_id() -> None:
    whole = whole_of(50)
    assert whole.row(whole.candidates.names[7]) == 7
    with pytest.raises(NotFoundError, match="choose anew"):
        whole.row("0" * 16)
