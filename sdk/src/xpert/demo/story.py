"""One user's story: what the texts are like, what is chosen, and what fine-tuning from it saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from xpert.bench.personalize import steps_to
from xpert.bench.starter import StarterCatalogue
from xpert.core.merging import MergeProposal, solve_merge
from xpert.core.runtime import DeviceRuntime, PersonalizeOptions, PersonalizeResult
from xpert.core.selection import Selection, choose, differences
from xpert.core.texts import PersonalText
from xpert.models.adapters import read_adapter, write_adapter
from xpert.models.merging import merge_adapters
from xpert.models.names import resolve

BASE = "starter:base"
SCRATCH, CHOICE, MERGE = "from scratch", "from the choice", "from the merge"

OPTIONS = PersonalizeOptions(max_steps=30, batch_size=8, learning_rate=5e-3, eval_every=2, patience=30)


@dataclass
class Story:
    """What happened to one user.

    Attributes
    ----------
    user
        The user's name.
    n_texts
        How many texts the user has.
    selection
        The choice.
    selecting_seconds
        Time from texts to choice.
    merge
        The best mix.
    coefficients
        The user's mean coefficients, a value a word.
    runs
        Start -> fine-tuning run; empty where the choice is to abstain.
    """

    user: str
    n_texts: int
    selection: Selection
    selecting_seconds: float
    merge: MergeProposal
    coefficients: Any = field(repr=False)
    runs: dict[str, PersonalizeResult] = field(default_factory=dict)

    @property
    def target(self) -> float:
        """The lowest held-out loss that the run from scratch reaches: all runs are timed to it."""
        return min(loss for _, loss in self.runs[SCRATCH].held_out)

    def savings(self) -> list[dict[str, Any]]:
        """Return steps and seconds to the target, start by start, selection counted."""
        rows: list[dict[str, Any]] = []
        for start, run in self.runs.items():
            steps = steps_to(run, self.target)
            extra = 0.0 if start == SCRATCH else self.selecting_seconds
            seconds = steps * run.seconds / max(run.steps, 1) + extra
            rows.append({"start": start, "first_loss": run.held_out[0][1], "steps": steps, "seconds": seconds})
        for row in rows:
            row["saved"] = 1 - row["seconds"] / max(rows[0]["seconds"], 1e-9)
        return rows


def tell(
    user: str,
    texts: Sequence[PersonalText],
    starter: StarterCatalogue,
    runtime: DeviceRuntime,
    *,
    out: Path,
    cache: Path,
    say: Callable[[str], None],
    progress: Callable[[int, int, float], None] | None = None,
) -> Story:
    """Choose for a user, propose a merge, and fine-tune from scratch and from what was chosen."""
    candidates = starter.catalogue.candidates
    start = perf_counter()
    selection = choose(texts, candidates, space=starter.space, encoder=starter.encoder)
    selecting = perf_counter() - start
    raw = starter.encoder.encode([text.text for text in texts])
    value = differences(starter.space.coefficients(raw), candidates).mean(0)
    proposal = solve_merge(value, candidates, n_texts=len(texts))
    story = Story(user, len(texts), selection, selecting, proposal, value)
    if selection.abstain:
        return story
    starts: dict[str, Path | None] = {SCRATCH: None, CHOICE: resolve(f"starter:{selection.matches[0].name}")}
    if proposal.wins:
        starts[MERGE] = _merged(proposal, out / f"{user}-merged")
    for label, adapter in starts.items():
        say(f"  fine-tuning {label} ({OPTIONS.max_steps} steps)")
        story.runs[label] = runtime.personalize(
            resolve(BASE),
            texts,
            out / f"{user}-{label.replace(' ', '-')}",
            init_adapter=adapter,
            options=OPTIONS,
            cache=cache,
            progress=progress,
        )
    return story


def _merged(proposal: MergeProposal, folder: Path) -> Path:
    sources = [(read_adapter(resolve(f"starter:{s.name}")), s.weight) for s in proposal.recipe.sources]
    write_adapter(folder, merge_adapters(sources).adapter, base_name=BASE)
    proposal.recipe.save(folder / "recipe.json")
    return folder
