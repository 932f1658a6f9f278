"""A bundle's manifest: written over the digests of all files, and checked whole before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path, PurePosixPath
from typing import Any

from xpert.core.errors import FileFormatError, NotFoundError
from xpert.core.files import read_json, tensor_layout
from xpert.core.signing import SUFFIX, verify_file
from xpert_mobile.geometry import PRECISIONS, PROJECTIONS, SCALED, TRANSPOSED, Geometry, layer_weights, module_of
from xpert_mobile.weights import weight_shapes

FORMAT, VERSION = "xpert-bundle", 1
MANIFEST = "manifest.json"
SIGNATURE = MANIFEST + SUFFIX
MINIMUM_RUNTIME = "0.1.0"
"""Oldest runtime that can use the bundles written here."""

MANY = 4
"""Problems that one message tells at most."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d+(\.\d+){0,3}")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that its manifest says.

    Attributes
    ----------
    folder
        Where it lies.
    manifest
        As docs/bundle.md describes it.
    signed
        Whether a signature was asked for and is right.
    """

    folder: Path
    manifest: Mapping[str, Any]
    signed: bool = False

    @property
    def n_bytes(self) -> int:
        """Size of all files that the manifest lists."""
        return sum(int(entry["bytes"]) for entry in self.manifest["files"].values())

    @property
    def geometry(self) -> Geometry:
        """Sizes of the base."""
        return read_sizes(self.manifest)


def seal(folder: Path, parts: Mapping[str, Any]) -> bytes:
    """Return the manifest of a folder's files: ``parts``, and the digest and size of every file, as JSON."""
    files = {name: entry_of(folder / name) for name in sorted(present(folder))}
    text = json.dumps({**parts, "files": files}, ensure_ascii=False, indent=1, allow_nan=False)
    return f"{text}\n".encode()


def entry_of(path: Path) -> dict[str, Any]:
    """Return a file's size and SHA-256."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": stream.tell(), "sha256": digest}


def present(folder: Path) -> Iterator[str]:
    """Yield the names of all files of a bundle but those of the manifest itself."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in {MANIFEST, SIGNATURE}:
            yield name


def read_bundle(folder: Path, *, public_key: str | None = None, with_weights: bool = True) -> Bundle:
    """Check a bundle whole and return it.

    Parameters
    ----------
    folder
        The bundle.
    public_key
        A minisign public key, base64 or the key file's text: the manifest must then be signed by it.
    with_weights
        Read the base's weights for their digest, which takes seconds a gigabyte; their size is compared in any case.

    Raises
    ------
    NotFoundError
        There is no bundle.
    FileFormatError
        It is cut, changed, of another format, or needs a newer program; the message says what is wrong.
    UntrustedError
        The signature is missing or wrong.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise NotFoundError(f"'{folder}' is no bundle: it has no {MANIFEST}. Make one with: xpert mobile export MODEL")
    if public_key is not None:
        verify_file(folder / MANIFEST, public_key)
    manifest = read_json(folder / MANIFEST, format=FORMAT, max_version=VERSION)
    try:
        problems = [*_header_problems(manifest), *_file_problems(folder, manifest, with_weights=with_weights)]
        if not problems:
            problems = [*_reference_problems(manifest), *_weight_problems(folder, manifest)]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problems = [f"its manifest is broken ({error!r})"]
    if problems:
        more = f"; and {len(problems) - MANY} more" if len(problems) > MANY else ""
        raise FileFormatError(f"Cannot use the bundle '{folder}': {'; '.join(problems[:MANY])}{more}. Fetch or export it again.")
    return Bundle(folder, manifest, signed=public_key is not None)


def read_sizes(manifest: Mapping[str, Any]) -> Geometry:
    """Return the geometry that a manifest gives."""
    given = dict(manifest["base"]["geometry"])
    rope = tuple(sorted((str(key), float(value)) for key, value in given.pop("rope").items()))
    return Geometry(**given, rope=rope)


def _header_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    needed, own = str(manifest["minimum_runtime"]), installed("xpert-mobile")
    if not _VERSION.fullmatch(needed):
        yield f"its minimum runtime is '{needed}', expected numbers with dots"
    elif _numbers(needed) > _numbers(own):
        yield f"it needs version {needed}, this is {own}: upgrade xpert-mobile"
    if ("base" in manifest) != ("programs" in manifest):
        yield "it has one of base and programs without the other"
    if ("encoder" in manifest) != ("space" in manifest):
        yield "it has one of encoder and space without the other"
    if "base" not in manifest and "encoder" not in manifest:
        yield "it has neither a base nor an encoder"


def _file_problems(folder: Path, manifest: Mapping[str, Any], *, with_weights: bool) -> Iterator[str]:
    listed: Mapping[str, Any] = manifest["files"]
    weights = manifest.get("base", {}).get("weights")
    for name, entry in listed.items():
        if not _is_plain(name):
            yield f"the name '{name}' leads out of it"
        elif not _DIGEST.fullmatch(str(entry["sha256"])):
            yield f"the digest of {name} is none"
        else:
            yield from _misfit(folder / name, name, entry, whole=with_weights or name != weights)
    for name in sorted(set(present(folder)) - set(listed)):
        yield f"{name} is not listed in its manifest"


def _misfit(path: Path, name: str, entry: Mapping[str, Any], *, whole: bool) -> Iterator[str]:
    if path.is_symlink() or not path.is_file():
        yield f"{name} is missing, or no plain file"
    elif path.stat().st_size != entry["bytes"]:
        yield f"{name} has {path.stat().st_size} bytes, expected {entry['bytes']}"
    elif whole and entry_of(path)["sha256"] != entry["sha256"]:
        yield f"{name} is not the file that was bundled: its digest differs"


def _reference_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    """List the files that the parts name and the digests do not cover."""
    named = []
    if "base" in manifest:
        base = manifest["base"]
        named += [base["weights"], base["tokenizer"], *([base["chat_template"]] if base.get("chat_template") else [])]
        named += [program["file"] for programs in manifest["programs"].values() for program in programs]
    if "encoder" in manifest:
        named += [manifest["encoder"]["program"], manifest["encoder"]["tokenizer"], manifest["space"]["file"]]
    for name in named:
        if name not in manifest["files"]:
            yield f"{name} is used, and not listed under files"


def _weight_problems(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Compare names, types and shapes of the weights with the geometry."""
    if "base" not in manifest:
        return
    base, geometry = manifest["base"], read_sizes(manifest)
    precision = base["precision"]
    if precision not in PRECISIONS:
        yield f"its precision is '{precision}', expected one of {', '.join(PRECISIONS)}"
        return
    transposed = base["transposed"] is True
    if base["layer_weights"] != layer_weights(geometry, precision, transposed=transposed):
        yield "its layer_weights are not those of its geometry"
    _, found = tensor_layout(folder / base["weights"])
    expected = stored_shapes(geometry, precision, transposed=transposed)
    for name, (dtype, shape) in expected.items():
        entry = found.get(name)
        if entry is None:
            yield f"its weights lack {name}"
        elif (entry["dtype"], tuple(entry["shape"])) != (dtype, shape):
            yield f"{name} is {entry['dtype']} {entry['shape']}, its geometry says {dtype} {list(shape)}"


def stored_shapes(geometry: Geometry, precision: str, *, transposed: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of every tensor of a bundle's weights, those of four bytes first so that all are aligned."""
    shapes = weight_shapes(geometry)
    stored = {name: ("F32", shape) for name, shape in shapes.items()}
    for i in range(geometry.n_layers):
        for projection in PROJECTIONS:
            name = f"model.layers.{i}.{module_of(projection)}"
            kind, (n_outputs, n_inputs) = "I8" if precision == "int8" else "F32", shapes[f"{name}.weight"]
            stored[f"{name}.weight"] = (kind, (n_outputs, n_inputs))
            if precision == "int8":
                stored[f"{name}.{SCALED}"] = ("F32", (n_outputs, 1))
            if transposed:
                stored[f"{name}.{TRANSPOSED}"] = (kind, (n_inputs, n_outputs))
    return dict(sorted(stored.items(), key=lambda item: item[1][0] != "F32"))


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\\" not in name and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])
