"""Making a bundle: base, programs, encoder and space in one folder, compared with torch and written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from xpert.core.errors import InputError, MismatchError, TrainingError, check_ranges
from xpert.core.files import read_json, staged_folder, write_atomic
from xpert.core.space import StyleSpace
from xpert.models.encoders import MINILM, minilm_folder
from xpert.models.names import resolve
from xpert_mobile.bucket import Bucket
from xpert_mobile.bundle.base_part import BundledBase, write_base
from xpert_mobile.bundle.manifest import FORMAT, MANIFEST, MINIMUM_RUNTIME, VERSION, Bundle, read_bundle, seal
from xpert_mobile.export_cache import generation_path, program_bytes, training_path
from xpert_mobile.geometry import PRECISIONS, WHOLE_VOCABULARY, Geometry, read_geometry, vocabulary_block
from xpert_mobile.weights import MappedBase

TOLERANCE = 2e-4
"""Largest share by which loss, a layer's gradient or a token's logits may deviate from torch's on the same weights."""

ROUNDED_TOLERANCE = 0.25
"""Largest share by which rounding weights to int8 may change loss or a layer's gradient: above it something is broken."""

Say = Callable[[str], None]
"""Told what is being done."""


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What a bundle holds.

    Attributes
    ----------
    precision
        Of the projections' weights: ``float32``, or ``int8`` with a scale for every output row.
    rank, batch
        Of the adapters and texts a training program takes.
    lengths
        Tokens of a text, one training program each; none: the bundle does not train.
    generate
        Most tokens of prompt and answer together; 0: the bundle does not answer.
    prefix
        Places of the prefixes that it trains beside adapters, at each of the lengths; 0: it trains none.
    transposed
        Whether the projections' weights are stored a second time, as the backward pass takes them: a step takes less time, the
        weights nearly twice the disk.
    """

    precision: str = "float32"
    rank: int = 8
    batch: int = 4
    lengths: tuple[int, ...] = (64,)
    generate: int = 256
    prefix: int = 0
    transposed: bool = False

    def __post_init__(self) -> None:
        """Refuse settings out of range, all at once."""
        if self.precision not in PRECISIONS:
            raise InputError(f"There is no precision '{self.precision}', there are {', '.join(PRECISIONS)}. Give one of these.")
        if not self.lengths and not self.generate:
            raise InputError("The bundle neither trains nor answers: it needs no base then. Give --length, --generate, or both.")
        if self.prefix and not self.lengths:
            raise InputError("A prefix is trained at the bundle's lengths, and there are none. Give --length, or no --prefix.")
        if self.transposed and not self.lengths:
            raise InputError(
                "Transposed weights are for training, and the bundle does not train. Give --length, or no --transposed."
            )
        check_ranges(
            {
                "prefix": (self.prefix, 0, 4096),
                "rank": (self.rank, 1, 256),
                "batch": (self.batch, 1, 256),
                **({"generate": (self.generate, 8, 1 << 17)} if self.generate else {}),
                **{f"length {length}": (length, 8, 1 << 15) for length in self.lengths},
            }
        )


def export_bundle(
    model: str | Path,
    out: Path,
    *,
    options: BundleOptions | None = None,
    space: StyleSpace | None = None,
    encoder: str | Path | None = None,
    with_encoder: bool = True,
    cache: Path,
    say: Say = lambda _: None,
) -> Bundle:
    """Make a bundle of a base model, with sentence encoder and style space.

    Parameters
    ----------
    model
        Base: a folder, ``starter:base`` or a hub name.
    out
        Folder of the bundle; another bundle there is replaced.
    options
        Precision and sizes.
    space
        Style space; None: the one that comes with xpert.
    encoder
        Sentence-transformers model; None: MiniLM.
    with_encoder
        Whether the bundle chooses at all; without, it trains and answers only.
    cache
        Folder for exported programs and converted weights.
    say
        Told what is being done.

    Raises
    ------
    InputError
        The architecture cannot be exported, or a program would be longer than the model's context.
    MismatchError
        The space was made with another encoder.
    TrainingError
        The programs deviate from torch by more than the tolerance: no bundle is written.
    StorageError
        There is no room; nothing is left behind.
    """
    options, out = options or BundleOptions(), Path(out)
    if (out / MANIFEST).exists():
        read_json(out / MANIFEST, format=FORMAT, max_version=VERSION)
    folder = resolve(model)
    geometry = read_geometry(folder)
    _fit(options, geometry)
    with staged_folder(out, marks=(MANIFEST,)) as stage:
        say("weights")
        base = MappedBase(folder, geometry, cache)
        parts: dict[str, Any] = {
            **_head(out),
            "base": write_base(
                folder, stage, geometry, base, name=_name(model), precision=options.precision, transposed=options.transposed
            ),
        }
        parts["programs"] = _write_programs(stage, geometry, options, cache, say)
        if with_encoder:
            say("encoder")
            parts |= _write_encoder(stage, space or StyleSpace.default(), encoder, cache)
        say("comparison with torch")
        parts["report"] = _compared(Bundle(stage, {**parts, "files": {}}), folder, options)
        write_atomic(stage / MANIFEST, seal(stage, parts))
    return read_bundle(out, with_weights=False)


def export_encoder_bundle(
    out: Path, *, space: StyleSpace | None = None, encoder: str | Path | None = None, cache: Path
) -> Bundle:
    """Make a bundle that chooses only: sentence encoder and style space; parameters and errors as of `export_bundle`."""
    out = Path(out)
    if (out / MANIFEST).exists():
        read_json(out / MANIFEST, format=FORMAT, max_version=VERSION)
    with staged_folder(out, marks=(MANIFEST,)) as stage:
        parts = {**_head(out), **_write_encoder(stage, space or StyleSpace.default(), encoder, cache)}
        write_atomic(stage / MANIFEST, seal(stage, parts))
    return read_bundle(out)


def _head(out: Path) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": out.name.removesuffix(".xpert"),
        "minimum_runtime": MINIMUM_RUNTIME,
        "executorch": installed("executorch"),
    }


def _name(model: str | Path) -> str:
    """Return the name of a base without the folders that it lies in here."""
    return Path(model).resolve().name if Path(model).is_dir() else str(model)


def _fit(options: BundleOptions, geometry: Geometry) -> None:
    longest = max(*(options.prefix + length for length in options.lengths), options.generate, 0)
    if longest > geometry.context:
        raise InputError(
            f"The model's context is {geometry.context} tokens, {longest} were asked for. Give smaller --length (a --prefix adds "
            "to it) and --generate."
        )


def _write_programs(stage: Path, geometry: Geometry, options: BundleOptions, cache: Path, say: Say) -> dict[str, Any]:
    sizes: dict[str, Any] = {"precision": options.precision, "rank": options.rank, "transposed": options.transposed}
    block = vocabulary_block(geometry)
    train, prefix = [], []
    for length in sorted(set(options.lengths)):
        stated = {"batch": options.batch, "length": length, "vocabulary_block": block}
        say(f"training program of {length} tokens")
        file = f"programs/train-b{options.batch}-s{length}-r{options.rank}.pte"
        bucket = Bucket(batch=options.batch, length=length, vocabulary_block=block, **sizes)
        write_atomic(stage / file, program_bytes(training_path(geometry, bucket, cache)))
        train.append({"file": file, "rank": options.rank, **stated})
        if options.prefix:
            say(f"training program of a prefix of {options.prefix} places and {length} tokens")
            file = f"programs/prefix-b{options.batch}-s{length}-p{options.prefix}.pte"
            bucket = replace(bucket, rank=1, prefix=options.prefix)  # of an adapter that changes nothing
            write_atomic(stage / file, program_bytes(training_path(geometry, bucket, cache)))
            prefix.append({"file": file, "rank": 1, "n_virtual": options.prefix, **stated})
    generate = []
    if options.generate:
        block = vocabulary_block(geometry, whole=WHOLE_VOCABULARY)
        say(f"generation program of {options.generate} tokens")
        file = f"programs/generate-s{options.generate}-r{options.rank}.pte"
        bucket = Bucket(batch=1, length=options.generate, vocabulary_block=block, **sizes)
        write_atomic(stage / file, program_bytes(generation_path(geometry, bucket, cache)))
        generate.append({"file": file, "rank": options.rank, "length": options.generate, "vocabulary_block": block})
    return {"train": train, "prefix": prefix, "generate": generate}


def _write_encoder(stage: Path, space: StyleSpace, encoder: str | Path | None, cache: Path) -> dict[str, Any]:
    from xpert.core.encoder import JointEncoder
    from xpert.models.digest import encoder_digest
    from xpert_mobile.encoder import ExportedSentenceEncoder

    folder = minilm_folder() if encoder is None else resolve(encoder)
    label = MINILM if encoder is None else f"{folder.resolve().name}@{encoder_digest(folder)[:12]}"
    exported = ExportedSentenceEncoder(folder, cache=cache, label=label)
    joint = JointEncoder(exported).name
    if space.encoder != joint:
        raise MismatchError(
            f"The style space '{space.name}' was made with the encoder '{space.encoder}', the bundle's is '{joint}'. Give the "
            "space's own encoder with --encoder."
        )
    write_atomic(stage / "encoder/encoder.pte", program_bytes(exported.path))
    shutil.copyfile(folder / "tokenizer.json", stage / "encoder/tokenizer.json")
    space.save(stage / "space.safetensors")
    return {
        "encoder": {
            "name": exported.name,
            "program": "encoder/encoder.pte",
            "tokenizer": "encoder/tokenizer.json",
            "dim": exported.dim,
            "max_length": exported.max_length,
        },
        "space": {"file": "space.safetensors", "digest": space.digest},
    }


def _compared(bundle: Bundle, folder: Path, options: BundleOptions) -> dict[str, Any]:
    """Compare programs and weights with torch and return the report.

    Raises
    ------
    TrainingError
        They deviate by more than the tolerance.
    """
    from xpert_mobile.bundle.comparison import Trial, difference

    programs: Mapping[str, Sequence[Mapping[str, Any]]] = bundle.manifest["programs"]
    worst: dict[str, float] = {}
    report: dict[str, Any] = {"tolerance": TOLERANCE}
    generate = next(iter(programs["generate"]), None)
    trains: list[Mapping[str, Any] | None] = [*programs["train"]] or [None]
    for train in trains:
        trial = Trial(bundle.geometry, train, generate)
        ours = trial.by_programs(bundle)
        rounded = options.precision != "float32"
        theirs = trial.by_torch(folder, BundledBase(bundle) if rounded else None)
        found = difference(ours, theirs)
        worst = {key: max(value, worst.get(key, 0.0)) for key, value in found.items()}
        if rounded and "rounding" not in report:
            report["rounding"] = difference(ours, trial.by_torch(folder))
    report["largest_difference"] = worst
    report["memory"] = _memory(bundle)
    _refuse({key: value for key, value in worst.items() if not value <= TOLERANCE}, TOLERANCE, "torch")
    rounding = report.get("rounding", {})
    _refuse({key: rounding[key] for key in rounding if not rounding[key] <= ROUNDED_TOLERANCE}, ROUNDED_TOLERANCE, "float32")
    return json.loads(json.dumps(report))  # type: ignore[no-any-return]


def _refuse(beyond: Mapping[str, float], tolerance: float, what: str) -> None:
    if beyond:
        found = ", ".join(f"{key} by {value:.1e}" for key, value in beyond.items())
        raise TrainingError(
            f"The bundle deviates from {what}: {found}; at most {tolerance:.0e} is allowed, and no bundle is written. Check the "
            "versions of torch and executorch against the lock, or take --precision float32."
        )


def _memory(bundle: Bundle) -> dict[str, int]:
    """State what training or answering keeps in bytes.

    That is a layer's mapped weights, and for a training step the inputs of all layers and the adapter with AdamW, for an answer
    the keys and values of all layers and the adapter.
    """
    from xpert_mobile.geometry import PROJECTIONS, shapes_of

    geometry, base, programs = bundle.geometry, BundledBase(bundle), bundle.manifest["programs"]
    memory = {"layer_weights": sum(array.nbytes for array in base.layers[0])}
    values = sum(sum(shapes_of(geometry)[p]) for p in PROJECTIONS) * geometry.n_layers * 4
    if programs["train"]:
        train = max(programs["train"], key=lambda program: int(program["length"]))
        positions = int(train["batch"]) * int(train["length"])
        memory["layer_inputs"] = (geometry.n_layers + 1) * positions * geometry.hidden * 4
        memory["adapter_and_optimizer"] = 4 * values * int(train["rank"])  # values, best values and two moments
    for generate in programs["generate"]:
        cached = 2 * geometry.n_kv_heads * geometry.head_dim * int(generate["length"])
        memory["keys_and_values"] = cached * geometry.n_layers * 4
    return memory
