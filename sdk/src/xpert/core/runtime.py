"""The device runtime as the SDK sees it: who fine-tunes on the phone is found by name, not imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from xpert.core.encoder import SentenceEncoder
from xpert.core.errors import MissingExtraError, check_ranges
from xpert.core.texts import PersonalText

GROUP = "xpert.runtimes"

Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, n_steps, loss)`` after every training step."""


@dataclass(frozen=True, kw_only=True)
class PersonalizeOptions:
    """Settings of a fine-tuning run on the device.

    Attributes
    ----------
    max_steps
        Most optimizer steps to run.
    batch_size
        Texts a step.
    learning_rate
        Peak learning rate of AdamW; warm-up, then constant.
    rank, alpha
        Rank and scale of a new adapter; one to start from is widened to this rank, its effect unchanged, and keeps a larger one.
    held_out
        Share of the texts kept aside to measure the loss on, between 0 and 1.
    eval_every
        Steps between two measurements of the held-out loss.
    patience
        Measurements without improvement after which the run stops.
    target_loss
        Held-out loss at which the run stops, if given.
    seed
        Seed of the order of the texts, the split and a new adapter's weights.
    threads
        CPU threads.
    """

    max_steps: int = 100
    batch_size: int = 4
    learning_rate: float = 5e-4
    rank: int = 8
    alpha: float = 16.0
    held_out: float = 0.2
    eval_every: int = 5
    patience: int = 4
    target_loss: float | None = None
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        """Refuse settings out of range, all at once."""
        check_ranges(
            {
                **{
                    key: (getattr(self, key), 1)
                    for key in ("max_steps", "batch_size", "rank", "eval_every", "patience", "threads")
                },
                **{key: (getattr(self, key), 1e-12) for key in ("learning_rate", "alpha")},
                "seed": (self.seed, 0),
                "held_out": (self.held_out, 0, 0.8),
            }
        )


@dataclass(frozen=True, kw_only=True)
class PersonalizeResult:
    """What a fine-tuning run on the device gave.

    Attributes
    ----------
    adapter
        Folder of the fine-tuned adapter, in PEFT's format: the one with the lowest held-out loss.
    losses
        Training loss of every step, in nats a token.
    held_out
        Pairs (step, held-out loss); the first one is at step 0, before any training.
    steps
        Steps run, resumed ones included.
    seconds
        Time of all steps, resumed ones included, export and loading apart.
    """

    adapter: Path
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]
    steps: int
    seconds: float


class DeviceRuntime(Protocol):
    """Selects and fine-tunes on the device; nothing it is given leaves the process.

    Implementations take the folder of a base model (Hugging Face format) and keep what they derive from it, such as
    exported programs, in ``cache``.
    """

    name: str

    def sentence_encoder(self, *, cache: Path, threads: int = 2) -> SentenceEncoder:
        """Return the default sentence encoder, run by this runtime."""
        ...

    def personalize(
        self,
        base: Path,
        texts: Sequence[PersonalText],
        out: Path,
        *,
        init_adapter: Path | None = None,
        options: PersonalizeOptions | None = None,
        cache: Path,
        progress: Progress | None = None,
    ) -> PersonalizeResult:
        """Fine-tune an adapter on ``texts``; a run that was cut off goes on from its last checkpoint, to the same bits.

        Raises
        ------
        InputError
            There are no texts, or the base's architecture cannot be exported.
        MismatchError
            The adapter to start from belongs to another base.
        TrainingError
            The loss became NaN, an export deviates from torch, or a checkpoint belongs to another run.
        """
        ...

    def training_step(self, base: Path, texts: Sequence[PersonalText], *, cache: Path, threads: int = 2) -> Callable[[], None]:
        """Return a function that runs one training step on ``texts``, everything loaded; for measuring."""
        ...

    def generate(
        self,
        base: Path,
        prompts: Sequence[str],
        *,
        adapter: Path | None = None,
        max_new_tokens: int = 100,
        threads: int = 2,
        cache: Path,
    ) -> list[str]:
        """Answer ``prompts`` greedily with the base or with base + adapter."""
        ...


def find_runtime(name: str = "executorch") -> DeviceRuntime:
    """Load the device runtime that is installed under ``name``.

    Raises
    ------
    MissingExtraError
        No installed distribution offers a runtime of that name.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        advice = "Install it with: pip install xpert-mobile" if "executorch" not in found else "Give one of these."
        raise MissingExtraError(f"No device runtime '{name}' is installed; found: {', '.join(sorted(found)) or 'none'}. {advice}")
    runtime: DeviceRuntime = found[name].load()()
    return runtime


def phone_runtime() -> DeviceRuntime:
    """Load what a phone runs, the native core, where it is built; else its reference in Python.

    Raises
    ------
    MissingExtraError
        No installed distribution offers the reference either.
    """
    try:
        return find_runtime("native")
    except MissingExtraError:
        return find_runtime()
