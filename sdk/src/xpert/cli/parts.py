"""What several commands take: the style space, the encoder, the catalogue in either form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpert.core.catalogue import Candidates, Catalogue, load_compact
from xpert.core.encoder import Encoder, JointEncoder
from xpert.core.files import cache_folder
from xpert.core.runtime import find_runtime
from xpert.core.space import StyleSpace

SpaceOption = Annotated[Path | None, typer.Option("--space", help="Style space; by default the one that comes with xpert.")]
EngineOption = Annotated[str, typer.Option("--engine", help="What runs the encoder: torch, or a device runtime (executorch).")]
BaseOption = Annotated[str, typer.Option("--base", "-b", help="Base model: a folder, starter:base or a hub name.")]


def open_space(path: Path | None) -> StyleSpace:
    """Load the style space at ``path``, or the default one."""
    return StyleSpace.load(path) if path else StyleSpace.default()


def open_encoder(engine: str) -> Encoder:
    """Load the default encoder on ``engine``."""
    if engine == "torch":
        from xpert.models.encoders import default_encoder

        return default_encoder()
    return JointEncoder(find_runtime(engine).sentence_encoder(cache=cache_folder() / engine))


def open_candidates(path: Path) -> Candidates:
    """Load a catalogue, readable or compact, by the ending of its name."""
    return load_compact(path) if path.suffix == ".safetensors" else Catalogue.load(path).candidates


def short_name(source: str) -> str:
    """Return the name under which an adapter is listed: the last part of what was given."""
    return source.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
