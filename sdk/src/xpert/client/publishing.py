"""What a publisher asks for: bases, spaces, adapters, explanations, merges; each may be asked twice and is done once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from xpert.client.answers import parse
from xpert.client.cache import file_sha256
from xpert.client.exchange import Answer, Exchange, Operation, Progress, Request, call, work
from xpert.client.sending import Send
from xpert.client.signing import write_signature
from xpert.core import data
from xpert.core.data import StyledText
from xpert.core.errors import AccessError, FileFormatError, InputError, NotFoundError, UnavailableError, UnsafeFileError
from xpert.core.exemplars import check_probes, chosen, read_exemplars, save_exemplars
from xpert.core.files import ADAPTER_FILES, read_bytes, read_safetensors
from xpert.core.signing import SecretKey
from xpert.core.texts import read_texts
from xpert.wire import (
    ArtifactUpload,
    Base,
    BaseDraft,
    ExplanationDraft,
    Job,
    JobKind,
    JobState,
    MergeDraft,
    MergeSource,
    Page,
    Pllm,
    PllmChange,
    PllmDraft,
    SampleAnswer,
    Space,
    SpaceDraft,
    UploadDraft,
    Version,
)
from xpert.wire.bodies import UploadKind

Model = TypeVar("Model", bound=BaseModel)


class Delete(Exchange[None]):
    """Delete something; that it is gone is an error at the first attempt alone, later ones follow a lost answer."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._tried = 0

    def request(self) -> Request:
        """Ask for it to go."""
        self._tried += 1
        return Request(method="DELETE", target=self._target)

    def refused(self, answer: Answer) -> bool:
        """Take that it is gone."""
        return answer.status == 404 and self._tried > 1

    def result(self) -> None:
        """Return nothing."""


def get(model: type[Model], target: str, **params: str | int | None) -> Operation[Model]:
    """Get one body."""
    found = tuple((key, str(value)) for key, value in params.items() if value is not None)
    return parse(model, (yield from call(Request(method="GET", target=target, params=found))))


def submit(model: type[Model], target: str, draft: BaseModel, *, method: Literal["POST", "PATCH"] = "POST") -> Operation[Model]:
    """Send one body and read the answer."""
    body = draft.model_dump_json().encode()
    request = Request(method=method, target=target, body=body, headers={"Content-Type": "application/json"})
    return parse(model, (yield from call(request)))


def change(target: str, *, is_published: bool) -> Operation[Pllm]:
    """Put the pLLM at an address into the catalogue, or take it out."""
    return submit(Pllm, target, PllmChange(publish=is_published), method="PATCH")


def delete(target: str) -> Operation[None]:
    """Delete something."""
    yield Delete(target)


def draft(model: type[Model], **values: object) -> Model:
    """Make a request's body.

    Raises
    ------
    InputError
        The server would refuse it; every problem is listed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}" for e in error.errors())
        raise InputError(f"Cannot ask the server for this: {found}.") from error


def version() -> Operation[Version]:
    """Ask what the server is."""
    return get(Version, "/version")


def bases(after: str | None, size: int) -> Operation[Page[Base]]:
    """List base models, a page."""
    return get(Page[Base], "/v1/bases", after=after, limit=size)


def spaces(after: str | None, size: int) -> Operation[Page[Space]]:
    """List style spaces, a page."""
    return get(Page[Space], "/v1/spaces", after=after, limit=size)


def answers(pllm: str, after: str | None, size: int) -> Operation[Page[SampleAnswer]]:
    """List sample answers of the pLLM at an address, a page."""
    return get(Page[SampleAnswer], f"{pllm}/answers", after=after, limit=size)


def jobs(after: str | None, size: int, *, state: JobState | None, kind: JobKind | None, base: str | None) -> Operation[Page[Job]]:
    """List jobs, a page, those asked for last first."""
    return get(Page[Job], "/v1/jobs", after=after, limit=size, state=state, kind=kind, base=base)


def pllms(base: str | None, words: Mapping[str, float], after: str | None, size: int) -> Operation[Page[Pllm]]:
    """List pLLMs, a page, those with at least these coefficients (below zero: at most)."""
    params = [("limit", str(size)), *(("word", f"{word}:{least:.3f}") for word, least in words.items())]
    params += [(key, value) for key, value in (("base", base), ("after", after)) if value]
    return parse(Page[Pllm], (yield from call(Request(method="GET", target="/v1/pllms", params=tuple(params)))))


def add_base(name: str, source: str) -> Operation[Base]:
    """Register a base model; the same again is the one that is there."""
    return submit(Base, "/v1/bases", draft(BaseDraft, name=name, source=source))


def add_space(path: Path, *, progress: Progress | None) -> Operation[Space]:
    """Upload and register a style space; the same again is the one that is there."""
    digest = yield from upload(path, "space", progress=progress)
    return (yield from submit(Space, "/v1/spaces", draft(SpaceDraft, artifact=digest)))


def space_draft(name: str, version: int, encoder: str | None) -> SpaceDraft:
    """Return what is asked for but for the exemplars' digest: a wrong name is found before the upload."""
    return draft(SpaceDraft, exemplars="0" * 64, name=name, version=version, encoder=encoder)


def build_space(
    exemplars: Path | None, wanted: SpaceDraft, words: Sequence[str], probes: Path | None, *, progress: Progress | None
) -> Operation[Job]:
    """Upload exemplars, and the probes that go with them, and ask for a style space that is built from them."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / "exemplars.json"
        yield from work(lambda: save_exemplars(path, _exemplars(exemplars, words), probes=_probes(probes)))
        digest = yield from upload(path, "exemplars", progress=progress)
    return (yield from submit(Job, "/v1/spaces", wanted.model_copy(update={"exemplars": digest})))


def _exemplars(path: Path | None, words: Sequence[str]) -> Sequence[StyledText]:
    """Read exemplars, XPerT's own where there is no file, all of them or those of some styles."""
    texts = data.exemplars() if path is None else read_exemplars(path)
    return chosen(texts, words) if words else texts


def _probes(path: Path | None) -> list[str]:
    """Read probes, a line each or as other texts are."""
    if path is None:
        return []
    found = [text.text for text in read_texts(path)]
    check_probes(found)
    return found


def upload(path: Path, kind: UploadKind, *, progress: Progress | None) -> Operation[str]:
    """Upload a file where the store lacks it and return its digest; what an interrupted upload brought is not sent again."""
    digest = yield from work(partial(file_sha256, path))
    asked = draft(UploadDraft, digest=digest, size=path.stat().st_size, kind=kind)
    again = True
    while True:
        where = yield from submit(ArtifactUpload, "/v1/uploads", asked)
        if where.present or not where.url:
            if progress:
                progress(asked.size, asked.size)
            return digest
        send = Send(where, path, progress=progress)
        try:
            yield send
        except AccessError:  # the signed address ran out before all was sent
            if not (again or send.gained):
                raise
            again = False
        except UnavailableError:
            # Attempts count anew as long as bytes arrive: a long upload over a bad network ends all the same.
            if not send.gained:
                raise
        else:
            if not where.confirm:
                return digest
            yield from submit(
                ArtifactUpload, "/v1/uploads", asked
            )  # the server looks at what came, or says what is wrong with it
            return digest


def upload_adapter(folder: Path, *, progress: Progress | None, beside: Sequence[Path] = ()) -> Operation[dict[str, str]]:
    """Upload an adapter's two files, and those that go ``beside`` them; returns file name -> digest.

    Raises
    ------
    NotFoundError
        The folder holds no adapter in PEFT's format.
    FileFormatError
        A file is truncated or pickled; nothing is sent.
    """
    paths = [*(yield from work(partial(adapter_files, folder))), *beside]
    total, before, files = sum(path.stat().st_size for path in paths), 0, {}
    for path in paths:

        def report(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, total)

        files[path.name] = yield from upload(path, "adapter", progress=report)
        before += path.stat().st_size
    return files


def adapter_files(folder: Path) -> list[Path]:
    """Return the files of an adapter, read once so that a broken one is found before it is sent."""
    folder = Path(folder)
    paths = [folder / name for name in ADAPTER_FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        pickled = next(iter(sorted(folder.glob("*.bin"))), None)
        if pickled:
            raise UnsafeFileError(
                f"'{folder}' holds pickled weights ({pickled.name}), which could run code when read. Save them as safetensors: "
                "model.save_pretrained(…)"
            )
        raise NotFoundError(f"'{folder}' is no adapter in PEFT's format: {' and '.join(missing)} not there. Give its folder.")
    read_safetensors(paths[1])
    _read_config(paths[0])
    return paths


def register(base: str, name: str, files: Mapping[str, str], *, publish: bool) -> Operation[Pllm]:
    """Register an uploaded adapter; the same again is the one that is there.

    Raises
    ------
    ConflictError
        The name stands for another adapter.
    """
    return submit(Pllm, "/v1/pllms", draft(PllmDraft, name=name, base=base, files=dict(files), publish=publish))


def push(
    folder: Path, base: str, name: str, *, publish: bool, progress: Progress | None, key: SecretKey | None
) -> Operation[Pllm]:
    """Upload an adapter, with its signature where a key is given, and register it."""
    draft(PllmDraft, name=name, base=base, files={ADAPTER_FILES[0]: "0" * 64})  # a wrong name is found before the upload
    with tempfile.TemporaryDirectory(prefix="xpert-") as stage:
        beside = []
        if key is not None:
            yield from work(partial(adapter_files, folder))  # a broken one is not signed
            beside.append((yield from work(partial(write_signature, folder, Path(stage), key))))
        files = yield from upload_adapter(folder, progress=progress, beside=beside)
    return (yield from register(base, name, files, publish=publish))


def explain(base: str, names: Iterable[str], space: str | None) -> Operation[Job]:
    """Ask for pLLMs to be explained anew."""
    return submit(Job, "/v1/explanations", draft(ExplanationDraft, base=base, pllms=list(names), space=space))


def merge(base: str, name: str, sources: Mapping[str, float], rank: int | None) -> Operation[Job]:
    """Ask for pLLMs to be merged into a new one."""
    listed = [draft(MergeSource, pllm=pllm, weight=weight) for pllm, weight in sources.items()]
    return submit(Job, "/v1/merges", draft(MergeDraft, name=name, base=base, sources=listed, rank=rank))


def _read_config(path: Path) -> None:
    try:
        found = json.loads(read_bytes(path))
    except ValueError as error:
        raise FileFormatError(f"'{path}' is not valid JSON: {error}. Was it cut or edited? Make it again.") from error
    if not isinstance(found, dict):
        raise FileFormatError(f"'{path}' is no adapter's configuration. Give a folder in PEFT's format.")
