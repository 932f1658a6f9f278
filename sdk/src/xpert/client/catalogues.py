"""What a phone asks for: the catalogue of a base and single adapters, from the server or, where it is away, the cache."""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xpert.client.answers import parse
from xpert.client.cache import Cache
from xpert.client.downloads import fetch_item
from xpert.client.exchange import Answer, Operation, Progress, Request, call, work
from xpert.client.link import Link, segment
from xpert.client.signing import check_adapter
from xpert.core.catalogue import Candidates, load_compact
from xpert.core.delta import apply_delta
from xpert.core.errors import FileFormatError, MismatchError, NotFoundError, StorageError, UnavailableError, XpertError
from xpert.core.files import read_bytes, sha256_hex, write_atomic
from xpert.wire import CatalogueInfo, Pllm, Space

QUICK = 2
"""Attempts where a copy from before stands by."""

ID = re.compile(r"^[0-9a-f]{16}$")
"""A pLLM's name in a compact catalogue: the first digits of its adapter's digest."""

COMPACT = "application/vnd.xpert.catalogue, application/octet-stream"
DELTA = "application/vnd.xpert.catalogue-delta"

SPACE_FILE = "space.safetensors"


class OfflineWarning(UserWarning):
    """The server was away; what is given is from the cache and may be old."""


@dataclass(frozen=True, kw_only=True)
class RemoteCatalogue:
    """A server's catalogue of one base.

    Attributes
    ----------
    base, version
        What it is.
    path
        The compact file in the cache.
    candidates
        What selection needs, with the pLLMs' names where the server told them.
    fresh
        Whether the server said just now that this is its current one.
    """

    base: str
    version: str
    path: Path
    candidates: Candidates = field(repr=False)
    fresh: bool


@dataclass(frozen=True)
class Place:
    """Which catalogue, and where in the cache what the server said of it is kept."""

    link: Link
    cache: Cache
    base: str
    space: str | None

    @property
    def folder(self) -> Path:
        """The base's folder."""
        return self.cache.folder / "servers" / self.link.key / self.base

    def made(self) -> Path:
        """Return the base's folder, made where it is not there."""
        return self.cache.place(self.base, self.link.key)

    def facts(self, kind: str) -> Path:
        """Return the file of what is known of the catalogue itself, one a style space."""
        return self.folder / f"{kind}{f'.{self.space}' if self.space else ''}.json"


def catalogue(link: Link, cache: Cache, base: str, *, space: str | None = None, offline: bool) -> Operation[RemoteCatalogue]:
    """Return the current catalogue; what comes is what changed since the copy from before, or nothing.

    Raises
    ------
    NotFoundError
        The server has no such base, or nothing of it is published.
    UnavailableError
        The server is away, and none was fetched before.
    """
    place = Place(link, cache, segment(base), space)
    held = yield from work(partial(_held, place))
    try:
        answer = yield from _ask(place, held)
    except (UnavailableError, StorageError) as error:
        if held is None:
            raise
        warn_old(f"catalogue of '{base}'", error, offline=offline)
        return replace(held, fresh=False)
    if answer.status == 304 and held:
        return held
    body: bytes | None = answer.body
    if held and answer.headers.get("content-type", "").partition(";")[0] == DELTA:
        body = yield from work(partial(_applied, held.path, answer.body))
        if body is None:
            answer = yield from _ask(place, None)
            body = answer.body
    version = version_of(answer)
    names = yield from _names(place, version)
    return (yield from work(partial(_keep, place, held, version, names, body or b"")))


def catalogue_info(base: str, space: str | None = None) -> Operation[CatalogueInfo]:
    """Return what the catalogue of a base is, without its coefficients."""
    target, headers = f"/v1/catalogues/{segment(base)}", {"Accept": "application/json"}
    request = Request(method="GET", target=target, params=in_space(space), headers=headers)
    return parse(CatalogueInfo, (yield from call(request)))


def pull(
    link: Link,
    cache: Cache,
    base: str,
    name: str,
    *,
    out: Path | None,
    progress: Progress | None,
    offline: bool,
    trust: str | None,
) -> Operation[Path]:
    """Return the folder of an adapter, checked, also for its signature by the key ``trust``; in the cache, or copied to ``out``.

    Raises
    ------
    NotFoundError
        There is no such pLLM.
    FileFormatError
        It is quarantined, or what came is not what its digest says.
    UnavailableError
        The server is away, and it was not fetched before.
    UntrustedError
        It is not signed by the key that is trusted.
    """
    pllm = yield from _known(link, cache, base, name, offline=offline)
    if pllm.quarantined:
        raise FileFormatError(f"The adapter of '{pllm.name}' was refused by the server: {pllm.quarantined}. Choose another pLLM.")
    for again in (True, False):
        folder = yield from fetch_item(cache, pllm.files, progress=progress, size=pllm.adapter_bytes)
        if trust is not None:
            yield from work(partial(check_adapter, folder, pllm.files, trust, name=pllm.name))
        try:
            return (yield from work(partial(cache.copy, pllm.files, folder, out))) if out else folder
        except StorageError:
            if folder.exists() or not again:  # gone: another client made room between fetching and copying
                raise
    raise AssertionError


def space(cache: Cache, digest: str, *, progress: Progress | None) -> Operation[Path]:
    """Return the file of a style space."""
    known = cache.folder / "servers" / "spaces" / f"{segment(digest)}.json"
    with suppress(NotFoundError, ValidationError):
        artifact = Space.model_validate_json(read_bytes(known)).artifact
        found = yield from work(partial(cache.find, {SPACE_FILE: artifact}))
        if found:
            return found / SPACE_FILE
    answer = yield from call(Request(method="GET", target=f"/v1/spaces/{segment(digest)}"))
    body = parse(Space, answer)
    folder = yield from fetch_item(cache, {SPACE_FILE: body.artifact}, progress=progress)
    yield from work(partial(write_atomic, known, answer.body))
    return folder / SPACE_FILE


def in_space(space: str | None) -> tuple[tuple[str, str], ...]:
    """Return the parameter that names a style space, where it is not the default one."""
    return (("space", segment(space)),) if space else ()


def version_of(answer: Answer) -> str:
    """Return the version that an answer leads to, by its ETag; that of a delta names after a dot where it begins."""
    return answer.headers.get("etag", "").removeprefix("W/").strip('"').partition(".")[0]


def _ask(place: Place, held: RemoteCatalogue | None) -> Operation[Answer]:
    headers, params = {"Accept": COMPACT}, in_space(place.space)
    if held and held.version:
        headers = {"Accept": f"{DELTA}, {COMPACT}", "If-None-Match": f'"{held.version}"'}
        params += (("since", held.version),)
    request = Request(method="GET", target=f"/v1/catalogues/{place.base}", params=params, headers=headers)
    return (yield from call(request, attempts=QUICK if held else None))


def _applied(held: Path, delta: bytes) -> bytes | None:
    """Bring a copy up to date; None where the delta does not lead there, and the whole has to be fetched."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path, out = Path(folder) / "delta.safetensors", Path(folder) / "out.safetensors"
        path.write_bytes(delta)
        try:
            apply_delta(held, path, out)
        except (MismatchError, FileFormatError):
            return None
        return read_bytes(out)


def _names(place: Place, version: str) -> Operation[list[str]]:
    """Ask for the names of a version; none where it was replaced meanwhile or cannot be told."""
    try:
        info = yield from catalogue_info(place.base, place.space)
    except XpertError:
        return []
    return info.pllms if info.version == version else []


def _held(place: Place) -> RemoteCatalogue | None:
    """Read the copy from before; none where there is none or it is damaged."""
    try:
        facts: dict[str, Any] = json.loads(read_bytes(place.facts("catalogue")))
        path = place.folder / str(facts["file"])
        found = _remote(place.base, str(facts["version"]), [str(name) for name in facts["names"]], path)
        os.utime(path)
    except (XpertError, OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _keep(place: Place, held: RemoteCatalogue | None, version: str, names: list[str], body: bytes) -> RemoteCatalogue:
    """Check a catalogue, put it in the cache and forget the one before."""
    folder = place.made()
    path = folder / f"{sha256_hex(body)[:16]}.xcat.safetensors"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        first = Path(scratch) / path.name
        write_atomic(first, body)
        _remote(place.base, version, names, first)
        first.replace(path)
    facts = {"version": version, "file": path.name, "names": names}
    write_atomic(place.facts("catalogue"), json.dumps(facts).encode())
    if held and held.path != path:
        held.path.unlink(missing_ok=True)
    place.cache.evict(keep=path.name)
    return _remote(place.base, version, names, path)


def _remote(base: str, version: str, names: list[str], path: Path) -> RemoteCatalogue:
    candidates = load_compact(path)
    if len(names) == len(candidates.names):
        candidates = replace(candidates, names=tuple(names))
    return RemoteCatalogue(base=base, version=version, path=path, candidates=candidates, fresh=True)


def _known(link: Link, cache: Cache, base: str, name: str, *, offline: bool) -> Operation[Pllm]:
    """Return what the server says of a pLLM, or said before where it is away."""
    segment(base, name)
    held = yield from work(partial(_record, cache.folder / "servers" / link.key / base, name))
    try:
        pllm = yield from _told(base, name, attempts=QUICK if held else None)
    except (UnavailableError, StorageError) as error:
        if held is None:
            raise
        warn_old(f"'{name}'", error, offline=offline)
        return held
    except NotFoundError:
        if held:  # withdrawn: not even from the cache any more
            (cache.place(base, link.key) / f"{held.name}.pllm.json").unlink(missing_ok=True)
        raise
    path = cache.place(base, link.key) / f"{segment(pllm.name)}.pllm.json"
    yield from work(partial(write_atomic, path, pllm.model_dump_json().encode()))
    return pllm


def _told(base: str, name: str, *, attempts: int | None) -> Operation[Pllm]:
    where = f"/v1/catalogues/{segment(base)}/pllms" if ID.match(name) else f"/v1/pllms/{segment(base)}"
    request = Request(method="GET", target=f"{where}/{segment(name)}")
    return parse(Pllm, (yield from call(request, attempts=attempts)))


def _record(folder: Path, name: str) -> Pllm | None:
    paths = folder.glob("*.pllm.json") if ID.match(name) else [folder / f"{name}.pllm.json"]
    for path in paths:
        with suppress(XpertError, ValidationError):
            pllm = Pllm.model_validate_json(read_bytes(path))
            if name in {pllm.name, pllm.adapter_digest[:16]}:
                return pllm
    return None


def warn_old(what: str, error: Exception, *, offline: bool) -> None:
    """Say that something is from the cache, unless the client is offline on purpose."""
    if not offline:
        warnings.warn(f"The {what} is from the cache and may be old. {error}", OfflineWarning, stacklevel=2)
