"""One user's story: what the texts are like, what is chosen, and what fine-tuning from it saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from xpert.bench.personalize import steps_to
from xpert.bench.starter import StarterCatalogue
from xpert.core.abstention import novelty
from xpert.core.merging import MergeProposal, solve_merge
from xpert.core.runtime import DeviceRuntime, PersonalizeOptions, PersonalizeResult
from xpert.core.selection import Selection, differences, select
from xpert.core.space import Matrix
from xpert.core.texts import PersonalText
from xpert.models.adapters import read_adapter, write_adapter
from xpert.models.merging import merge_adapters
from xpert.models.names import resolve

BASE = "starter:base"
SCRATCH, CHOICE, MERGE = "from scratch", "from the choice", "from the merge"

OPTIONS = PersonalizeOptions(max_steps=30, batch_size=8, learning_rate=5e-3, eval_every=2, patience=30)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One start's way to the target loss.

    Attributes
    ----------
    start
        ``SCRATCH``, ``CHOICE`` or ``MERGE``.
    first_loss, best_loss
        Held-out loss before any training, and the lowest of the run, in nats a token.
    steps, seconds
        Steps and fine-tuning time to the target; None where the run ended without reaching it.
    preparing
        Seconds before the first step: choosing, and for the mix solving and making it; 0 from scratch.
    saved
        Share of the fine-tuning time from scratch that this start saves, below 0 where it takes longer; None where it cannot be
        said. ``preparing`` is left out, as in the paper's table.
    saved_in_all
        The same with ``preparing`` counted.
    """

    COLUMNS = ("start", "first loss", "best loss", "steps", "tuning", "saved", "before")

    start: str
    first_loss: float
    best_loss: float
    steps: int | None
    seconds: float | None
    preparing: float
    saved: float | None
    saved_in_all: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under ``COLUMNS``."""
        seconds = "-" if self.seconds is None else f"{self.seconds:.1f} s"
        steps = "not reached" if self.steps is None else str(self.steps)
        saved = "-" if self.saved is None else f"{self.saved:.0%}"
        before = f"{self.preparing:.1f} s" if self.preparing else "-"
        return self.start, f"{self.first_loss:.2f}", f"{self.best_loss:.2f}", steps, seconds, saved, before


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
    merge
        The best mix.
    coefficients
        The user's mean coefficients, a value a word.
    preparing
        Start -> seconds before its first step: choosing, and for the mix solving and making it.
    runs
        Start -> fine-tuning run; empty where the choice is to abstain.
    """

    user: str
    n_texts: int
    selection: Selection
    merge: MergeProposal
    coefficients: Matrix = field(repr=False)
    preparing: dict[str, float] = field(default_factory=dict)
    runs: dict[str, PersonalizeResult] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether there are losses to compare: of fewer than five texts none is held out."""
        return bool(self.runs and self.runs[SCRATCH].held_out)

    @property
    def target(self) -> float:
        """The lowest held-out loss that the run from scratch reaches: all runs are timed to it."""
        return min(loss for _, loss in self.runs[SCRATCH].held_out)

    @property
    def mix(self) -> str:
        """What the best mix is, and whether it is worth it."""
        if len(self.merge.recipe.sources) < 2:
            return "No mix of two pLLMs comes nearer to the user than one alone."
        mix = " + ".join(f"{source.weight:.2f} x {source.name}" for source in self.merge.recipe.sources)
        verdict = "the mix is clearly nearer" if self.merge.wins else "the mix is not clearly nearer"
        return (
            f"Best mix: {mix}, at distance {self.merge.distance:.1f} from the user; '{self.merge.single}' alone is at "
            f"{self.merge.single_distance:.1f}: {verdict}."
        )

    @property
    def outcome(self) -> str:
        """What fine-tuning gave, where no table can show it."""
        if not self.runs:
            return "Nothing is downloaded and nothing is lost against the base: fine-tuning starts from scratch."
        if not self.measured:
            return (
                f"{self.n_texts} texts are too few to hold some out: the adapters are made, but what they gain is not measured."
            )
        if self.timings()[0].steps == 0:
            return "Training from scratch did not lower the held-out loss: what another start saves cannot be said."
        return ""

    def timings(self) -> list[Timing]:
        """Return every start's way to the target, the one from scratch first; empty where nothing was measured."""
        rows: list[Timing] = []
        # All do the same work a step: one time a step for all, so that another load on the machine does not count.
        each = sum(run.seconds for run in self.runs.values()) / max(sum(run.steps for run in self.runs.values()), 1)
        for start, run in self.runs.items() if self.measured else ():
            steps = steps_to(run.held_out, self.target)
            seconds = None if steps is None else steps * each
            preparing = self.preparing.get(start, 0.0)
            scratch = rows[0].seconds if rows else None
            rows.append(
                Timing(
                    start=start,
                    first_loss=run.held_out[0][1],
                    best_loss=min(loss for _, loss in run.held_out),
                    steps=steps,
                    seconds=seconds,
                    preparing=preparing,
                    saved=None if not scratch or seconds is None else 1 - seconds / scratch,
                    saved_in_all=None if not scratch or seconds is None else 1 - (seconds + preparing) / scratch,
                )
            )
        return rows

    @property
    def balance(self) -> str:
        """What is saved once choosing is counted; empty where nothing can be said."""
        known = [row for row in self.timings() if row.saved_in_all is not None]
        if not known:
            return ""
        each = ", ".join(f"{row.start} {1 - (row.saved_in_all or 0.0):.1f} times" for row in known)
        return (
            f"Counting what comes before, the whole way takes, compared with that from scratch: {each}. Choosing runs no LLM, so "
            "it takes as long for a large base, whose fine-tuning takes minutes or hours; on one as tiny as this it can cost "
            "more than it saves."
        )


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
    candidates, space = starter.catalogue.candidates, starter.space
    begin = perf_counter()
    raw = starter.encoder.encode([text.text for text in texts])
    coefficients = space.coefficients(raw)
    selection = select(coefficients, candidates, novelty=novelty(space, raw, candidates))
    choosing = perf_counter() - begin
    begin = perf_counter()
    value = differences(coefficients, candidates).mean(0)
    proposal = solve_merge(value, candidates, n_texts=len(texts))
    story = Story(user, len(texts), selection, proposal, value)
    if selection.abstain:
        return story
    starts: dict[str, Path | None] = {SCRATCH: None, CHOICE: resolve(f"starter:{selection.matches[0].name}")}
    story.preparing[CHOICE] = choosing
    if proposal.wins:
        starts[MERGE] = _merged(proposal, out / f"{user}-merged")
        story.preparing[MERGE] = choosing + perf_counter() - begin
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
