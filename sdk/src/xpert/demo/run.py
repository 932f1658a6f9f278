"""The demo's steps: explain the starter pLLMs, choose for users, merge, fine-tune, draw, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from xpert.bench.starter import StarterCatalogue, explain_starter
from xpert.core.data import probes
from xpert.core.encoder import JointEncoder
from xpert.core.files import cache_folder, write_atomic
from xpert.core.runtime import find_runtime, phone_runtime
from xpert.core.texts import PersonalText, warn_about
from xpert.demo.plots import draw_coefficients, draw_losses, draw_map
from xpert.demo.report import Demo, write_report
from xpert.demo.standing import standing
from xpert.demo.story import BASE, Story, tell
from xpert.models.base import load_base
from xpert.models.names import resolve

Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]


def run_demo(
    users: Mapping[str, Sequence[PersonalText]],
    out: Path,
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    bar: Bar,
    show: Callable[[StarterCatalogue | Story], None],
    runtime: str | None = None,
) -> Demo:
    """Run the whole of XPerT on real models, offline; all it shows but the starter's own evaluation is computed in this run.

    Parameters
    ----------
    users
        Name -> texts.
    out
        Folder for adapters, catalogue, pictures and the report.
    say, warn, bar, show
        Take a line, take a warning, open a progress bar, and show a result for people.
    runtime
        Name of the device runtime; None: what a phone runs, where it is built, else its reference.

    Raises
    ------
    StorageError
        ``out`` cannot be written to; said before any work.
    MissingExtraError
        The runtime is not installed.
    """
    trial = out / ".trial"
    write_atomic(trial, b"")
    trial.unlink()
    warnings = {user: warn_about(texts) for user, texts in users.items()}
    for user, found in warnings.items():
        for warning in found:
            warn(f"{user}: {warning}")
    base = load_base(BASE)
    evaluated = standing(resolve(BASE).parent / "evaluation.json", n_tokens=base.model.config.vocab_size)
    device = find_runtime(runtime) if runtime else phone_runtime()
    if not runtime and device.name != "native":
        say("What a phone runs is not built here, so its reference in Python stands in. Build it with: ./taskw native")
    cache = cache_folder() / device.name
    say(f"1. Get the sentence encoder ready on the device runtime '{device.name}' (exported to ExecuTorch once, then kept)")
    encoder = JointEncoder(device.sentence_encoder(cache=cache))
    say(f"2. Explain the starter pLLMs: all answer {len(probes())} prompts that none of them was trained on, in one batch")
    with bar("probing") as progress:
        starter = explain_starter(base, encoder, cache=out / "answers", progress=progress)
    starter.catalogue.save(out / "starter.catalogue.json")
    each = starter.catalogue.export_compact(out / "starter.xcat.safetensors")
    show(starter)
    say(f"   {evaluated}")
    say(f"   A phone downloads {each} bytes a pLLM to choose among them.")
    stories = []
    for user, texts in users.items():
        say(f"3. {user}: choose by {len(texts)} private texts, then fine-tune on the device runtime")
        with bar("fine-tuning") as progress:
            story = tell(user, texts, starter, device, out=out / "adapters", cache=cache, say=say, progress=progress)
        show(story)
        stories.append(story)
    say("4. Draw and report")
    demo = Demo(starter, evaluated, warnings, stories, _draw(starter, stories, out), out / "report.html")
    write_report(demo)
    return demo


def _draw(starter: StarterCatalogue, stories: Sequence[Story], out: Path) -> dict[str, Path]:
    candidates = starter.catalogue.candidates
    pictures = {
        "coefficients": draw_coefficients(starter.catalogue.entries, out / "coefficients.png"),
        "map": draw_map(
            dict(zip(candidates.names, candidates.coefficients, strict=True)),
            {story.user: story.coefficients for story in stories},
            out / "map.png",
        ),
    }
    for story in stories:
        if story.measured:
            pictures[f"loss-{story.user}"] = draw_losses(
                {label: run.held_out for label, run in story.runs.items()},
                out / f"loss-{story.user}.png",
                title=f"{story.user}: fine-tuning on the device",
                target=story.target,
            )
    return pictures
