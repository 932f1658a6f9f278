"""The group `xpert mobile`: bundles and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xpert.cli.output import JsonOption, Output, table
from xpert.core.errors import InputError
from xpert.core.files import cache_folder, write_atomic
from xpert.core.signing import SecretKey, read_public_key
from xpert.core.space import StyleSpace
from xpert_mobile.bundle.manifest import Bundle, read_bundle

app = typer.Typer(help="Bundles for phones: export, check, sign.", no_args_is_help=True)

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")]
KeyOption = Annotated[str | None, typer.Option("--public-key", help="Minisign public key, its file or its line in base64.")]


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Base model: a folder, starter:base or a hub name.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the bundle; default: NAME.xpert.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or int8: a quarter of the size.")] = "float32",
    rank: Annotated[int, typer.Option(help="Rank of adapters.")] = 8,
    batch: Annotated[int, typer.Option(help="Texts a training step.")] = 4,
    length: Annotated[
        list[int] | None, typer.Option(help="Most tokens of a training text; again for more programs; 0: it does not train.")
    ] = None,
    generate: Annotated[int, typer.Option(help="Most tokens of prompt and answer; 0: it does not answer.")] = 256,
    prefix: Annotated[int, typer.Option(help="Places of the prefixes it trains beside adapters; 0: none.")] = 0,
    transposed: Annotated[
        bool,
        typer.Option("--transposed", help="Store projections a second time for the backward pass: faster steps, twice the disk."),
    ] = False,
    space: Annotated[Path | None, typer.Option("--space", help="Style space; default: the one that comes with xpert.")] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Sentence-transformers model; default: MiniLM.")] = None,
    with_encoder: Annotated[bool, typer.Option("--with-encoder/--no-encoder", help="Whether the bundle can choose.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle: what a phone needs to choose, fine-tune and answer, compared with torch before it is kept."""
    from xpert_mobile.bundle.making import BundleOptions, export_bundle

    output = Output(as_json=as_json)
    lengths = tuple(n for n in length or (64,) if n != 0)
    options = BundleOptions(
        precision=precision, rank=rank, batch=batch, lengths=lengths, generate=generate, prefix=prefix, transposed=transposed
    )
    bundle = export_bundle(
        model,
        out or Path(f"{model.rstrip('/').replace(':', '/').rsplit('/', 1)[-1]}.xpert"),
        options=options,
        space=StyleSpace.load(space) if space else None,
        encoder=encoder,
        with_encoder=with_encoder,
        cache=cache_folder() / "executorch",
        say=lambda what: output.say(f"- {what}"),
    )
    _show(output, bundle, f"Wrote {bundle.folder}.")


@app.command()
def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Print what a bundle holds and how far it is from torch; the base's weights are not read."""
    _show(Output(as_json=as_json), read_bundle(bundle, with_weights=False), "")


@app.command()
def verify(bundle: BundleArgument, public_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Check every file of a bundle against its manifest, and the manifest's signature where a public key is given."""
    found = read_bundle(bundle, public_key=read_public_key(public_key) if public_key else None)
    trust = "signed by the given key" if found.signed else "signature not checked: give --public-key"
    data = {
        "name": found.manifest["name"],
        "bytes": found.n_bytes,
        "n_files": len(found.manifest["files"]),
        "signed": found.signed,
    }
    Output(as_json=as_json).show(data, f"{found.folder}: {data['n_files']} files of {_size(found.n_bytes)} are right; {trust}.")


@app.command()
def keygen(
    out: Annotated[Path, typer.Option("-o", "--out", help="File of the secret key; the public one is put beside it.")] = Path(
        "xpert.key"
    ),
    as_json: JsonOption = False,
) -> None:
    """Make a pair of keys in minisign's format: KEY to sign with, and KEY.pub to hand out."""
    public = out.with_name(f"{out.name}.pub")
    there = [str(path) for path in (out, public) if path.exists()]
    if there:
        raise InputError(
            f"There is a key already: {', '.join(there)}. Give another place with --out; a lost key cannot be made again."
        )
    key = SecretKey.random()
    key.write(out)
    write_atomic(public, key.public_file().encode())
    data = {"secret_key": str(out), "public_key_file": str(public), "public_key": key.public()}
    Output(as_json=as_json).show(data, f"{out}: keep it secret. {public}: hand it out; its key is {key.public()}")


@app.command()
def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option("--key", help="Secret key, from `xpert mobile keygen` or `minisign -G -W`.")],
    as_json: JsonOption = False,
) -> None:
    """Check a bundle and sign its manifest."""
    from xpert_mobile.bundle.signing import sign_bundle

    secret = SecretKey.read(key)
    signed = sign_bundle(bundle, secret)
    data = {"name": signed.manifest["name"], "public_key": secret.public()}
    Output(as_json=as_json).show(
        data, f"Signed {signed.folder}. Check: xpert mobile verify {bundle} --public-key {secret.public()}"
    )


def _show(output: Output, bundle: Bundle, title: str) -> None:
    manifest = bundle.manifest
    if title:
        output.say(title)
    files = [(name, _size(entry["bytes"]), entry["sha256"][:12]) for name, entry in manifest["files"].items()]
    views = [table(f"Bundle {manifest['name']} ({_size(bundle.n_bytes)})", ("file", "size", "sha256"), files)]
    if "base" in manifest:
        views.append(table("Base", ("", ""), [*_base_rows(manifest), *_report_rows(manifest.get("report", {}))], left=2))
    output.show(dict(manifest), *views)


def _base_rows(manifest: Any) -> list[tuple[str, str]]:
    base, geometry = manifest["base"], manifest["base"]["geometry"]
    sizes = f"{geometry['n_layers']} layers, hidden {geometry['hidden']}, vocabulary {geometry['vocabulary']}"
    stored = base["precision"] + (", stored a second time for training" if base["transposed"] else "")
    return [("name", base["name"]), ("digest", base["digest"][:12]), ("sizes", sizes), ("weights", stored)]


def _report_rows(report: Any) -> list[tuple[str, str]]:
    rows = [(f"{key}, off torch's by", f"{value:.1e}") for key, value in report.get("largest_difference", {}).items()]
    rows += [(f"{key}, changed by rounding", f"{value:.1e}") for key, value in report.get("rounding", {}).items()]
    return rows + [(f"memory: {key.replace('_', ' ')}", _size(value)) for key, value in report.get("memory", {}).items()]


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"
