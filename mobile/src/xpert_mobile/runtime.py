"""The device runtime on ExecuTorch: what the SDK finds under the name `executorch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xpert.core.encoder import SentenceEncoder
from xpert.core.runtime import PersonalizeOptions, PersonalizeResult, Progress
from xpert.core.texts import PersonalText
from xpert.models.encoders import minilm_folder
from xpert.models.names import resolve
from xpert_mobile.adapter_state import AdapterState, fresh, from_peft
from xpert_mobile.bucket import Bucket
from xpert_mobile.encoder import ExportedSentenceEncoder
from xpert_mobile.engine import Program
from xpert_mobile.generation import Generator
from xpert_mobile.geometry import WHOLE_VOCABULARY, Geometry, read_geometry, vocabulary_block
from xpert_mobile.samples import Sample, encode_texts, rounded
from xpert_mobile.tokens import ChatTokenizer
from xpert_mobile.training import LayerwiseModel, Trainer
from xpert_mobile.weights import MappedBase


class ExecuTorchRuntime:
    """Selects, fine-tunes and answers by ExecuTorch programs; see `xpert.core.runtime.DeviceRuntime`."""

    name = "executorch"

    def sentence_encoder(self, *, cache: Path, threads: int = 2) -> SentenceEncoder:
        """Return MiniLM, run by ExecuTorch."""
        return ExportedSentenceEncoder(minilm_folder(), cache=cache, threads=threads)

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
        folder = resolve(base)
        geometry = read_geometry(folder)
        samples = encode_texts(folder, texts, geometry)
        weights = MappedBase(folder, geometry, cache)
        state = self._state(geometry, weights, init_adapter, rank=options.rank, alpha=options.alpha, seed=options.seed)
        model = self.model(folder, samples, state.rank, options, cache=cache, weights=weights)
        return Trainer(model, state, samples, options, out).run(progress)

    def model(
        self,
        folder: Path,
        samples: Sequence[Sample],
        rank: int,
        options: PersonalizeOptions,
        *,
        cache: Path,
        weights: MappedBase | None = None,
    ) -> LayerwiseModel:
        """Load what computes losses and gradients of a base for texts as long as ``samples``, exporting it if need be."""
        from xpert_mobile.export_cache import training_path

        geometry = read_geometry(folder)
        length = rounded(max(len(sample.ids) for sample in samples))
        block = vocabulary_block(geometry)
        bucket = Bucket(rank=rank, batch=options.batch_size, length=length, vocabulary_block=block)
        path = training_path(geometry, bucket, cache)
        base = weights or MappedBase(folder, geometry, cache)
        program = Program(path, threads=options.threads)
        return LayerwiseModel(base, geometry, program, batch=options.batch_size, length=length, vocabulary_block=block)

    def training_step(self, base: Path, texts: Sequence[PersonalText], *, cache: Path, threads: int = 2) -> Callable[[], None]:
        """See `DeviceRuntime.training_step`."""
        folder = resolve(base)
        geometry = read_geometry(folder)
        samples = encode_texts(folder, texts, geometry)
        options = PersonalizeOptions(batch_size=len(samples), held_out=0.0, threads=threads)
        weights = MappedBase(folder, geometry, cache)
        state = fresh(geometry, rank=options.rank, alpha=options.alpha, seed=0)
        model = self.model(folder, samples, state.rank, options, cache=cache, weights=weights)
        return Trainer(model, state, samples, options, cache / "measured").advance

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
        from xpert_mobile.export_cache import generation_path

        folder = resolve(base)
        geometry = read_geometry(folder)
        tokens = ChatTokenizer(folder, n_tokens=geometry.vocabulary)
        ids = [tokens.prompt_ids(prompt) for prompt in prompts]
        if not ids:
            return []
        weights = MappedBase(folder, geometry, cache)
        state = self._state(geometry, weights, adapter, rank=1, alpha=1.0, seed=0)
        length = min(rounded(max(map(len, ids)) + max_new_tokens), geometry.context)
        block = vocabulary_block(geometry, whole=WHOLE_VOCABULARY)
        path = generation_path(geometry, Bucket(rank=state.rank, batch=1, length=length, vocabulary_block=block), cache)
        generator = Generator(weights, geometry, Program(path, threads=threads), length=length, vocabulary_block=block)
        answers = [generator.answer(row, state, end=tokens.end, max_new_tokens=max_new_tokens) for row in ids]
        return [tokens.decode(answer) for answer in answers]

    def _state(
        self, geometry: Geometry, weights: MappedBase, adapter: Path | None, *, rank: int, alpha: float, seed: int
    ) -> AdapterState:
        if adapter is None:
            return fresh(geometry, rank=rank, alpha=alpha, seed=seed)
        return from_peft(resolve(adapter), geometry, weights.digest, rank=rank, alpha=alpha, seed=seed)
