"""The device runtime on the native core: what the SDK finds under the name `native`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from xpert.core.encoder import SentenceEncoder
from xpert.core.errors import XpertError
from xpert.core.files import sha256_hex
from xpert.core.runtime import PersonalizeOptions, PersonalizeResult, Progress
from xpert.core.texts import PersonalText
from xpert.models.adapters import read_adapter
from xpert.models.digest import base_digest
from xpert.models.names import resolve
from xpert_mobile.bundle.manifest import MANIFEST, VERSION, read_bundle
from xpert_mobile.export_cache import REVISION
from xpert_mobile.geometry import read_geometry
from xpert_mobile.native_library import NativeEngine, find_library, load_library
from xpert_mobile.samples import encode_texts, rounded
from xpert_mobile.tokens import ChatTokenizer


class NativeSentenceEncoder:
    """The sentence encoder of a bundle, run by the native core; see `xpert.core.encoder.SentenceEncoder`.

    Parameters
    ----------
    bundle
        A bundle with encoder and space.
    threads
        CPU threads.
    """

    def __init__(self, bundle: Path, *, threads: int = 2) -> None:
        manifest = read_bundle(bundle, with_weights=False).manifest["encoder"]
        self.name, self.dim = str(manifest["name"]), int(manifest["dim"])
        self._engine = NativeEngine(bundle, {"threads": threads})
        self._whole = int(self._engine.describe()["dim"])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit embeddings of ``texts``, shape (n_texts, dim)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.ascontiguousarray(self._engine.encode(list(texts), dim=self._whole)[:, : self.dim])


class NativeRuntime:
    """Selects, fine-tunes and answers by the native core; see `xpert.core.runtime.DeviceRuntime`.

    Bundles are exported into the cache where they are missing, which takes torch; nothing else here does.

    Raises
    ------
    MissingExtraError
        The native core is not built.
    """

    name = "native"

    def __init__(self) -> None:
        load_library(find_library())

    def sentence_encoder(self, *, cache: Path, threads: int = 2) -> SentenceEncoder:
        """Return MiniLM, run by the native core."""
        return NativeSentenceEncoder(encoder_bundle(cache), threads=threads)

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
        """See `DeviceRuntime.personalize`."""
        options = options or PersonalizeOptions()
        start = resolve(init_adapter) if init_adapter else None
        rank = max(options.rank, rank_of(start))
        bundle = training_bundle(resolve(base), texts, rank=rank, batch=options.batch_size, cache=cache)
        request = {
            "out": str(out),
            "start": str(start) if start else None,
            "rank": rank,
            **{key: getattr(options, key) for key in ("max_steps", "batch_size", "learning_rate", "alpha", "held_out")},
            **{key: getattr(options, key) for key in ("eval_every", "patience", "target_loss", "seed")},
        }

        def on_step(step: int, n_steps: int, loss: float, _: float) -> None:
            if progress:
                progress(step, n_steps, loss)

        with opened(bundle, threads=options.threads) as engine:
            found = engine.personalize([text.prompt for text in texts], [text.text for text in texts], request, on_step)
        return _result(found)

    def training_step(self, base: Path, texts: Sequence[PersonalText], *, cache: Path, threads: int = 2) -> Callable[[], None]:
        """See `DeviceRuntime.training_step`.

        The C API trains whole runs: the function is a run of one step from an adapter that is new every time.
        """
        bundle = training_bundle(resolve(base), texts, rank=PersonalizeOptions().rank, batch=len(texts), cache=cache)
        engine = NativeEngine(bundle, {"threads": threads})
        out = cache / "measured"
        request = {"out": str(out), "max_steps": 1, "batch_size": len(texts), "held_out": 0.0}
        prompts, answers = [text.prompt for text in texts], [text.text for text in texts]

        def step() -> None:
            engine.personalize(prompts, answers, request)

        return step

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
        """See `DeviceRuntime.generate`."""
        if not prompts:
            return []
        folder = resolve(adapter) if adapter else None
        rank = max(PersonalizeOptions().rank, rank_of(folder))
        bundle = answering_bundle(resolve(base), prompts, max_new_tokens=max_new_tokens, rank=rank, cache=cache)
        request = {"adapter": str(folder) if folder else None, "max_new_tokens": max_new_tokens}
        with opened(bundle, threads=threads) as engine:
            return [str(engine.generate(prompt, request)["text"]).strip() for prompt in prompts]


@contextmanager
def opened(bundle: Path, *, threads: int) -> Iterator[NativeEngine]:
    """Open a bundle for a block."""
    engine = NativeEngine(bundle, {"threads": threads})
    try:
        yield engine
    finally:
        engine.close()


def rank_of(adapter: Path | None) -> int:
    """Return the largest rank of an adapter's modules; 0 where there is none."""
    if adapter is None:
        return 0
    return max((pair.A.shape[0] for pair in read_adapter(adapter).modules.values()), default=0)


def training_bundle(base: Path, texts: Sequence[PersonalText], *, rank: int, batch: int, cache: Path) -> Path:
    """Return a bundle of a base that trains on texts as long as ``texts``, exporting it if it is not in ``cache``."""
    geometry = read_geometry(base)
    longest = max(len(sample.ids) for sample in encode_texts(base, texts, geometry))
    return _base_bundle(base, cache, rank=rank, batch=batch, lengths=(min(rounded(longest), geometry.context),), generate=0)


def answering_bundle(base: Path, prompts: Sequence[str], *, max_new_tokens: int, rank: int, cache: Path) -> Path:
    """Return a bundle of a base that answers prompts as long as ``prompts``, exporting it if it is not in ``cache``."""
    geometry = read_geometry(base)
    tokens = ChatTokenizer(base, n_tokens=geometry.vocabulary)
    longest = max(len(tokens.prompt_ids(prompt)) for prompt in prompts) + max_new_tokens
    return _base_bundle(base, cache, rank=rank, batch=1, lengths=(), generate=min(rounded(longest), geometry.context))


def _base_bundle(base: Path, cache: Path, **sizes: Any) -> Path:
    key = sha256_hex(f"{VERSION} {REVISION} {base_digest(base)} {sorted(sizes.items())}".encode())[:16]

    def export(out: Path) -> None:
        from xpert_mobile.bundle.making import BundleOptions, export_bundle

        export_bundle(base, out, options=BundleOptions(**sizes), with_encoder=False, cache=cache)

    return _kept(cache / "bundles" / f"base-{key}.xpert", export)


def encoder_bundle(cache: Path) -> Path:
    """Return the bundle with the default sentence encoder and style space, exporting it if it is not in ``cache``."""
    from xpert.core.space import StyleSpace

    space = StyleSpace.default()
    key = sha256_hex(f"{VERSION} {REVISION} {space.digest}".encode())[:16]

    def export(out: Path) -> None:
        from xpert_mobile.bundle.making import export_encoder_bundle

        export_encoder_bundle(out, space=space, cache=cache)

    return _kept(cache / "bundles" / f"encoder-{key}.xpert", export)


def _kept(path: Path, export: Callable[[Path], None]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not (path / MANIFEST).exists():
            export(path)
    return path


def _result(found: dict[str, Any]) -> PersonalizeResult:
    losses = tuple(float(loss) for loss in found["losses"])
    if not all(map(math.isfinite, losses)):
        raise XpertError("The native core gave a loss that is no number. This is a defect; report it.")
    return PersonalizeResult(
        adapter=Path(found["adapter"]),
        losses=losses,
        held_out=tuple((int(step), float(loss)) for step, loss in found["held_out"]),
        steps=int(found["steps"]),
        seconds=float(found["seconds"]),
    )
