"""The demo on the real starter models: few texts, targets not reached, where it writes, what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from xpert.cli.app import app
from xpert.core import data
from xpert.core.errors import FileFormatError, InputError, StorageError
from xpert.core.merging import solve_merge
from xpert.core.runtime import PersonalizeResult, find_runtime
from xpert.core.selection import choose
from xpert.core.texts import PersonalText
from xpert.demo.labels import place_labels
from xpert.demo.plots import draw_losses
from xpert.demo.report import Demo, write_report
from xpert.demo.run import run_demo
from xpert.demo.standing import standing
from xpert.demo.story import CHOICE, MERGE, SCRATCH, Story, tell

RUNNER = CliRunner()


def texts_of(user: str) -> list[PersonalText]:
    return [PersonalText(t.text, t.prompt) for t in data.users() if t.user == user]


def result(*held_out: float, steps: int = 4, seconds: float = 8.0) -> PersonalizeResult:
    """Return a run of 2 s a step that was measured every other step."""
    return PersonalizeResult(
        adapter=Path("a"), losses=(), held_out=tuple((2 * i, v) for i, v in enumerate(held_out)), steps=steps, seconds=seconds
    )


@contextmanager
def no_bar(_: str) -> Iterator[object]:
    yield lambda *_: None


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, told: list[str]) -> Demo:
    users = {"few": texts_of("u02")[:3]}
    return run_demo(users, tmp_path_factory.mktemp("demo"), say=told.append, warn=told.append, bar=no_bar, show=lambda _: None)


@pytest.mark.slow
def test_few_texts_are_fine_tuned_on_and_nothing_is_claimed(done: Demo, told: list[str]) -> None:
    story = done.stories[0]
    assert told[0] == "few: 3 texts are few; from 10 on the choice is reliable."  # before any work
    assert story.selection.choice == "poetic"
    assert not story.measured
    assert story.timings() == []
    assert all((run.adapter / "adapter_model.safetensors").exists() for run in story.runs.values())
    page = done.report.read_text()
    assert "3 texts are few" in page
    assert "3 texts are too few to hold some out" in page
    assert set(done.pictures) == {"coefficients", "map"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in done.pictures.values())
    assert page.count("data:image/png;base64,") == 2
    assert not [path for path in done.report.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_target_that_is_not_reached_is_said_on_the_page(done: Demo) -> None:
    story = replace(done.stories[0], runs={SCRATCH: result(5.0, 4.0, 4.5), CHOICE: result(4.8, 4.2, 4.1)})
    picture = draw_losses({s: r.held_out for s, r in story.runs.items()}, done.report.parent / "l.png", title="t", target=4.0)
    write_report(replace(done, stories=[story], pictures={**done.pictures, "loss-few": picture}))
    page = done.report.read_text()
    assert '<td>from the choice</td><td class="n">4.80</td><td class="n">4.10</td><td class="n">not reached</td>' in page
    assert page.count("data:image/png;base64,") == 3
    assert "Before: choosing" in page
    assert done.standing.replace("'", "&#39;") in page


@pytest.mark.slow
def test_the_command_says_what_the_models_cannot_and_what_was_chosen(done: Demo) -> None:
    # The same folder, so that the answers of the first run are used again.
    ran = RUNNER.invoke(app, ["demo", "--user", "u10", "-o", str(done.report.parent)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert done.standing in ran.stdout
    assert "Abstain" in ran.stdout
    assert "Nothing is downloaded" in ran.stdout


@pytest.mark.slow
def test_the_command_measures_what_is_saved_and_predicts_nothing(done: Demo) -> None:
    ran = RUNNER.invoke(app, ["demo", "--user", "u01", "-o", str(done.report.parent)], catch_exceptions=False)
    assert "Counting what comes before" in ran.stdout
    assert "Expected saving" not in ran.stdout


class Counting:
    """The real encoder, with a count of its calls."""

    def __init__(self, encoder: object) -> None:
        self.encoder, self.calls = encoder, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.encoder, name)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return self.encoder.encode(texts)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.slow
def test_texts_are_encoded_once_for_the_same_choice_as_ever(done: Demo, tmp_path: Path) -> None:
    texts, counting = texts_of("u10"), Counting(done.starter.encoder)
    starter = replace(done.starter, encoder=counting)  # type: ignore[arg-type]
    story = tell("u10", texts, starter, find_runtime(), out=tmp_path, cache=tmp_path, say=lambda _: None)
    assert counting.calls == 1
    expected = choose(texts, starter.catalogue.candidates, space=starter.space, encoder=done.starter.encoder)
    assert story.selection.reason == expected.reason
    assert story.selection.matches == expected.matches
    assert story.merge == solve_merge(story.coefficients, starter.catalogue.candidates, n_texts=len(texts))


def timed(**runs: PersonalizeResult) -> Story:
    names = {"scratch": SCRATCH, "choice": CHOICE, "merge": MERGE}
    return Story(
        "u",
        9,
        None,
        None,
        np.zeros(1),
        preparing={CHOICE: 1.0, MERGE: 2.0},
        runs={names[k]: v for k, v in runs.items()},  # type: ignore[arg-type]
    )


def test_starts_are_timed_to_the_target_or_not_at_all() -> None:
    story = timed(scratch=result(5.0, 4.4, 4.0), choice=result(4.8, 3.9, 3.8), merge=result(4.7, 4.3, 4.1))
    scratch, choice, merge = story.timings()
    assert (scratch.steps, scratch.seconds, scratch.saved) == (4, 8.0, None)
    assert (choice.steps, choice.seconds, choice.preparing) == (2, 4.0, 1.0)  # two steps of 2 s, behind 1 s of choosing
    assert choice.saved == pytest.approx(4 / 8)  # fine-tuning against fine-tuning
    assert choice.saved_in_all == pytest.approx(3 / 8)
    assert choice.cells == (CHOICE, "4.80", "3.80", "2", "4.0 s", "50%", "1.0 s")
    assert (merge.steps, merge.seconds, merge.saved, merge.saved_in_all) == (None, None, None, None)
    assert merge.cells == (MERGE, "4.70", "4.10", "not reached", "-", "-", "2.0 s")
    assert "from scratch: from the choice 0.6 times. Choosing runs no LLM" in story.balance
    assert story.outcome == ""


def test_another_load_on_the_machine_is_no_saving() -> None:
    story = timed(scratch=result(5.0, 4.4, 4.0, seconds=16.0), choice=result(4.8, 4.4, 4.0))
    scratch, choice = story.timings()
    assert (scratch.seconds, choice.seconds, choice.saved) == (12.0, 12.0, 0.0)


def test_choosing_that_costs_more_than_it_saves_is_said() -> None:
    story = replace(timed(scratch=result(5.0, 4.0), choice=result(4.8, 4.0)), preparing={CHOICE: 4.0})
    choice = story.timings()[1]
    assert (choice.saved, choice.saved_in_all) == (0.0, -1.0)
    assert "from the choice 2.0 times" in story.balance


def test_nothing_is_saved_against_a_run_that_learned_nothing() -> None:
    story = timed(scratch=result(4.0, 4.4), choice=result(4.8, 3.9))
    assert [row.saved for row in story.timings()] == [None, None]
    assert "cannot be said" in story.outcome
    assert story.balance == ""


def test_the_standing_is_read_from_the_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"pllms": {"good": {"both": 0.9}, "fair": {"both": 0.6}, "poor": {"both": 0.125}}}))
    said = standing(path, n_tokens=1000)
    assert "1 of 3 reach that, from 'good' with 90% down to 'poor' with 12%" in said
    assert "6.91" in said
    for broken in ("{", "[]", '{"pllms": {}}', '{"pllms": {"a": {"both": null}}}'):
        path.write_text(broken)
        with pytest.raises(FileFormatError, match="Install xpert-starter again"):
            standing(path, n_tokens=1000)


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match="choose another place"):
        RUNNER.invoke(app, ["demo", "-o", str(tmp_path / "taken")], catch_exceptions=False)
    assert (tmp_path / "taken").read_text() == "mine"
    with pytest.raises(InputError, match="both --user u01 and --texts"):
        RUNNER.invoke(app, ["demo", "--user", "u01", "--texts", "t.txt"], catch_exceptions=False)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="Nothing was changed"):
        draw_losses({"a": [(0, 2.0)]}, tmp_path / "taken", title="t", target=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert draw_losses({"a": [(0, 2.0)]}, tmp_path / "l.png", title="$_$", target=1.0).read_bytes().startswith(b"\x89PNG")


def test_labels_cover_neither_points_nor_each_other() -> None:
    points = np.array([(50.0, 50.0), (52.0, 50.0), (50.0, 58.0), (199.0, 50.0)])
    sizes = np.full((4, 2), (30.0, 10.0))
    low = points + place_labels(points, sizes, (200.0, 100.0))
    high = low + sizes
    assert (low >= 0).all()
    assert (high <= (200, 100)).all()
    for i in range(4):
        assert not ((low[i] < points) & (points < high[i])).all(1).any()
        for j in range(i):
            assert not (np.maximum(low[i], low[j]) < np.minimum(high[i], high[j])).all()
