"""What several commands take: the style space, the encoder, the catalogue in either form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from xpert.cli.output import Output
from xpert.cli.remote import open_client
from xpert.core.catalogue import Candidates, Catalogue, load_compact
from xpert.core.encoder import Encoder, JointEncoder, Vectors
from xpert.core.errors import InputError, NotFoundError
from xpert.core.files import cache_folder
from xpert.core.runtime import find_runtime
from xpert.core.space import Matrix, StyleSpace

SpaceOption = Annotated[Path | None, typer.Option("--space", help="Style space; by default the one that comes with xpert.")]
EngineOption = Annotated[str, typer.Option("--engine", help="What runs the encoder: torch, or a device runtime (executorch).")]
EncoderOption = Annotated[
    str | None, typer.Option("--encoder", help="A sentence-transformers model, folder or hub name; default: MiniLM.")
]
BaseOption = Annotated[str, typer.Option("--base", "-b", help="Base model: a folder, starter:base or a hub name.")]


def open_space(path: Path | None) -> StyleSpace:
    """Load the style space at ``path``, or the default one."""
    return StyleSpace.load(path) if path else StyleSpace.default()


def open_encoder(engine: str, name: str | None = None) -> Encoder:
    """Load the sentence encoder called ``name``, or the default one, on ``engine``."""
    if engine == "torch":
        from xpert.models.encoders import SentenceTransformerEncoder, default_encoder

        return JointEncoder(SentenceTransformerEncoder(name)) if name else default_encoder()
    if name:
        raise InputError(f"--encoder runs on torch; '{engine}' has the default encoder. Leave one of them out.")
    return JointEncoder(find_runtime(engine).sentence_encoder(cache=cache_folder() / engine))


class RememberingEncoder:
    """An encoder that is asked for the same texts twice and computes them once.

    Parameters
    ----------
    encoder
        What computes them.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name, self.dim, self.n_sentence = encoder.name, encoder.dim, encoder.n_sentence
        self._known: dict[tuple[str, ...], Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return raw vectors of ``texts``, shape (n_texts, dim)."""
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self._encoder.encode(texts)
        return self._known[key]


def open_candidates(
    source: str,
    output: Output,
    *,
    mine: Callable[[], Matrix] | None = None,
    cells: int | None = None,
    most_whole: int | None = None,
) -> Candidates:
    """Load a catalogue: readable or compact by the ending of its name, or a server's by its address.

    Parameters
    ----------
    source
        A file, or an address.
    output
        Where warnings go.
    mine
        Gives the coefficients of the user's texts where a part of the catalogue is enough; a server's then is fetched whole only
        where it is small.
    cells, most_whole
        See `Client.catalogue_for`; None is what it does by default.

    Raises
    ------
    InputError
        It is an address, and not that of a catalogue.
    """
    if source.startswith(("http://", "https://")):
        server, mark, base = source.rstrip("/").partition("/v1/catalogues/")
        if not mark:
            raise InputError(f"'{source}' is no catalogue's address. Write SERVER/v1/catalogues/BASE.")
        from xpert.client.cells import CELLS

        with open_client(server, output) as client:
            if not mine:
                return client.catalogue(base).candidates
            return client.catalogue_for(base, mine(), cells=cells or CELLS, most_whole=most_whole).candidates
    path = Path(source)
    return load_compact(path) if path.suffix == ".safetensors" else Catalogue.load(path).candidates


def find_adapter(place: str, name: str, digest: str) -> str:
    """Find the adapter of a pLLM by its digest: under its own name in ``place``, or else under any.

    Parameters
    ----------
    place
        A folder of adapters' folders, or a collection such as ``starter:``.
    name, digest
        As the catalogue's candidates have them; the first digits of the digest are enough.

    Raises
    ------
    NotFoundError
        No adapter there has the digest.
    """
    from xpert.models.adapters import read_adapter
    from xpert.models.names import listed, resolve

    if place.endswith(":"):
        there = list(listed(place[:-1]))
    else:
        there = [str(path.parent) for path in sorted(Path(place).glob("*/adapter_config.json"))]
    for source in sorted(there, key=lambda source: short_name(source) != name):
        if read_adapter(resolve(source)).digest.startswith(digest):
            return source
    raise NotFoundError(
        f"None of the {len(there)} adapters in '{place}' is the pLLM '{name}' of the catalogue (digest {digest[:12]}). Say where "
        "its adapters are with --adapters: a folder of adapters' folders, or a collection such as starter:"
    )


def short_name(source: str) -> str:
    """Return the name under which an adapter is listed: the last part of what was given."""
    return source.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
