"""The fake server's routes: REST v1 as docs/adr/0006-rest.md has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from xpert.client.fake.faults import Reply, Seen, read_json
from xpert.client.fake.state import State, now
from xpert.core.errors import AccessError, ConflictError, FileFormatError, InputError, NotFoundError
from xpert.core.files import sha256_hex
from xpert.wire import (
    ArtifactUpload,
    BaseDraft,
    ExplanationDraft,
    MergeDraft,
    Page,
    Pllm,
    PllmChange,
    PllmDraft,
    SpaceDraft,
    TokenDraft,
    UploadDraft,
    Version,
)
from xpert.wire.bodies import Scope

Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[State, Seen, list[str], str], Reply]
"""``handler(state, request, segments of the path, address of the store)``."""

ROUTES: list[tuple[str, re.Pattern[str], Scope | None, Handler]] = []
COMPACT = "application/vnd.xpert.catalogue"
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def route(method: str, path: str, scope: Scope | None) -> Callable[[Handler], Handler]:
    """Register a handler for ``path``, in which ``*`` stands for a segment."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(path.replace("*", "([^/]+)")), scope, handler))
        return handler

    return register


def read(model: type[Model], seen: Seen) -> Model:
    """Read a request's body; unknown fields are refused."""
    try:
        return model.model_validate(read_json(seen))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise InputError(f"The body is not usable: {found}.") from error


def page(seen: Seen, items: Sequence[tuple[str, BaseModel]]) -> Reply:
    """Answer with a page of named items."""
    limit, after = int(seen.param("limit") or 100), seen.param("after") or ""
    rest = sorted((pair for pair in items if pair[0] > after), key=lambda pair: pair[0])
    following = rest[limit - 1][0] if len(rest) > limit else None
    return Reply.of(Page[Any](items=[item.model_dump(mode="json") for _, item in rest[:limit]], next=following))


@route("GET", "/healthz|/readyz", None)
def _health(*_: object) -> Reply:
    return Reply(headers={"content-type": "application/json"}, body=b'{"status":"ok"}')


@route("GET", "/version", None)
def _version(*_: object) -> Reply:
    return Reply.of(Version(version="fake"))


@route("GET", "/v1/bases", "read")
def _bases(state: State, seen: Seen, *_: object) -> Reply:
    return page(seen, list(state.bases.items()))


@route("POST", "/v1/bases", "publish")
def _add_base(state: State, seen: Seen, *_: object) -> Reply:
    return Reply.of(state.add_base(read(BaseDraft, seen)), status=201)


@route("GET", "/v1/bases/*", "read")
def _base(state: State, _: Seen, names: list[str], __: str) -> Reply:
    return Reply.of(state.base(names[0]))


@route("GET", "/v1/spaces", "read")
def _spaces(state: State, seen: Seen, *_: object) -> Reply:
    return page(seen, list(state.spaces.items()))


@route("POST", "/v1/spaces", "publish")
def _add_space(state: State, seen: Seen, *_: object) -> Reply:
    asked = read(SpaceDraft, seen)
    if asked.artifact is None:
        return Reply.of(state.build_space(asked), status=202)
    return Reply.of(state.add_space(asked.artifact), status=201)


@route("GET", "/v1/spaces/*", "read")
def _space(state: State, _: Seen, names: list[str], __: str) -> Reply:
    if names[0] not in state.spaces:
        raise NotFoundError(f"There is no style space {names[0][:12]} here.")
    return Reply.of(state.spaces[names[0]])


@route("POST", "/v1/uploads", "publish")
def _upload(state: State, seen: Seen, _: list[str], store: str) -> Reply:
    asked = read(UploadDraft, seen)
    if asked.digest in state.blobs:
        return Reply.of(ArtifactUpload(digest=asked.digest, present=True))
    url = f"{store}/store/{asked.digest}?X-Amz-Signature=put"
    headers = {"Content-Type": "application/octet-stream"}
    there = {"offset": len(state.parts.get(asked.digest, b"")), "expires": now() + timedelta(minutes=5)}
    return Reply.of(
        ArtifactUpload.model_validate({"digest": asked.digest, "present": False, "url": url, "headers": headers, **there})
    )


@route("GET", "/v1/artifacts/*", "read")
def _artifact(state: State, _: Seen, names: list[str], store: str) -> Reply:
    state.blob(names[0])
    return Reply(status=307, headers={"location": f"{store}/store/{names[0]}?X-Amz-Signature=get"})


@route("PUT", "/store/*", None)
def _put(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    _signed(seen, "put")
    return _take(state, names[0], seen, b"")


@route("PATCH", "/store/*", None)
def _patch(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    _signed(seen, "put")
    before = state.parts.get(names[0], b"")
    if int(seen.headers["upload-offset"]) != len(before):
        raise ConflictError(f"There are {len(before)} bytes. Go on from there.")
    return _take(state, names[0], seen, before)


def _take(state: State, digest: str, seen: Seen, before: bytes) -> Reply:
    data = before + seen.body
    if len(seen.body) < int(seen.headers.get("content-length", "0")):
        state.parts[digest] = data
        return Reply()
    state.parts.pop(digest, None)
    if sha256_hex(data) != digest:
        raise FileFormatError(f"What came is not {digest[:12]}. Send it again.")
    state.put(data)
    return Reply()


@route("GET", "/store/*", None)
def _get(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    if seen.method == "HEAD" and seen.param("X-Amz-Signature") == "put":
        return Reply(status=204, headers={"upload-offset": str(len(state.parts.get(names[0], b"")))})
    _signed(seen, "get")
    data = state.blob(names[0])
    found = RANGE.fullmatch(seen.headers.get("range", ""))
    if not found:
        return Reply(headers={"accept-ranges": "bytes"}, body=data)
    first, last = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
    if first > last:
        return Reply(status=416, headers={"content-range": f"bytes */{len(data)}"})
    return Reply(status=206, headers={"content-range": f"bytes {first}-{last}/{len(data)}"}, body=data[first : last + 1])


def _signed(seen: Seen, what: str) -> None:
    """Refuse as S3 does: an address that is not signed for this, or a token beside the signature."""
    if "authorization" in seen.headers or seen.param("X-Amz-Signature") != what:
        raise AccessError("A signed address takes no token, and allows what it was signed for alone.")


@route("GET", "/v1/pllms", "read")
def _pllms(state: State, seen: Seen, *_: object) -> Reply:
    base = seen.param("base")
    if base:
        state.base(base)
    least = [word.partition(":") for key, word in seen.params if key == "word"]
    kept = [
        (f"{pllm.base}/{pllm.name}", pllm)
        for pllm in state.pllms.values()
        if base in {None, pllm.base} and all(_has(pllm, word, float(value or 0)) for word, _, value in least)
    ]
    return page(seen, kept)


def _has(pllm: Pllm, word: str, bound: float) -> bool:
    words = pllm.explanation.words if pllm.explanation else []
    return any(w.word == word and (w.coefficient >= bound if bound >= 0 else w.coefficient <= bound) for w in words)


@route("POST", "/v1/pllms", "publish")
def _add_pllm(state: State, seen: Seen, *_: object) -> Reply:
    return Reply.of(state.add_pllm(read(PllmDraft, seen)), status=201)


@route("GET", "/v1/pllms/*/*", "read")
def _pllm(state: State, _: Seen, names: list[str], __: str) -> Reply:
    return Reply.of(state.pllm(names[0], names[1]))


@route("PATCH", "/v1/pllms/*/*", "publish")
def _change(state: State, seen: Seen, names: list[str], __: str) -> Reply:
    return Reply.of(state.change(names[0], names[1], read(PllmChange, seen)))


@route("GET", "/v1/pllms/*/*/answers", "read")
def _answers(state: State, seen: Seen, names: list[str], __: str) -> Reply:
    return page(seen, [(f"{number:06d}", answer) for number, answer in enumerate(state.answers(names[0], names[1]), 1)])


@route("DELETE", "/v1/pllms/*/*", "publish")
def _remove(state: State, _: Seen, names: list[str], __: str) -> Reply:
    state.pllm(names[0], names[1])
    del state.pllms[names[0], names[1]]
    return Reply(status=204)


@route("POST", "/v1/explanations", "publish")
def _explain(state: State, seen: Seen, *_: object) -> Reply:
    asked = read(ExplanationDraft, seen)
    state.base(asked.base)
    names = asked.pllms or sorted(name for base, name in state.pllms if base == asked.base)
    for name in names:
        state.pllm(asked.base, name)
    return Reply.of(state.add_job("explain", asked.base, dict.fromkeys(names, asked.space or state.style.digest)), status=202)


@route("POST", "/v1/merges", "publish")
def _merge(state: State, seen: Seen, *_: object) -> Reply:
    asked = read(MergeDraft, seen)
    sources = [state.pllm(asked.base, source.pllm) for source in asked.sources]
    heaviest = max(zip(asked.sources, sources, strict=True), key=lambda pair: abs(pair[0].weight))[1]
    known = [(source.weight, state.words.get((asked.base, source.pllm), {})) for source in asked.sources]
    mixed = {word: sum(weight * words.get(word, 0) for weight, words in known) for word in state.style.words}
    state.words.setdefault((asked.base, asked.name), mixed)
    state.add_pllm(PllmDraft(name=asked.name, base=asked.base, files=heaviest.files), merged_from=asked.sources)
    return Reply.of(state.add_job("merge", f"{asked.base}/{asked.name}", {"pllm": f"{asked.base}/{asked.name}"}), status=202)


@route("GET", "/v1/catalogues/*", "read")
def _catalogue(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    _in_space(state, seen)
    info, data = state.catalogue(names[0])
    accept, since = seen.headers.get("accept", ""), seen.param("since")
    vary = {"vary": "Accept, Authorization"}
    if accept.startswith("application/json"):
        headers = {**vary, "etag": f'"{info.version}.json"', "content-type": "application/json"}
        return Reply(headers=headers, body=info.model_dump_json().encode())
    if seen.headers.get("if-none-match") == f'"{info.version}"':
        return Reply(status=304, headers={**vary, "etag": f'"{info.version}"'})
    delta = state.delta(info, data, since) if since else None
    if delta is not None:
        return Reply(headers={**vary, "etag": f'"{info.version}.{since}"', "content-type": f"{COMPACT}-delta"}, body=delta)
    return Reply(headers={**vary, "etag": f'"{info.version}"', "content-type": COMPACT}, body=data)


@route("GET", "/v1/catalogues/*/cells", "read")
def _cells(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    _in_space(state, seen)
    cells = state.cells(names[0])
    headers = {"etag": f'"{cells.digest}"', "content-type": f"{COMPACT}-cells"}
    if seen.headers.get("if-none-match") == headers["etag"]:
        return Reply(status=304, headers=headers)
    return Reply(headers=headers, body=cells.index)


@route("GET", "/v1/catalogues/*/cells/*", "read")
def _cell(state: State, seen: Seen, names: list[str], _: str) -> Reply:
    _in_space(state, seen)
    return Reply(headers={"etag": f'"{names[1]}"', "content-type": f"{COMPACT}-cell"}, body=state.cells(names[0]).named(names[1]))


@route("GET", "/v1/catalogues/*/pllms/*", "read")
def _pllm_by_id(state: State, _: Seen, names: list[str], __: str) -> Reply:
    found = [p for p in state.pllms.values() if p.base == names[0] and p.explanation and p.adapter_digest[:16] == names[1]]
    if not found:
        raise NotFoundError(f"The catalogue has no pLLM '{names[1]}'. Fetch the catalogue again and choose anew.")
    return Reply.of(found[0])


def _in_space(state: State, seen: Seen) -> None:
    """Refuse a style space in which nothing is explained here."""
    if seen.param("space") not in {None, state.style.digest}:
        raise NotFoundError("No pLLM is explained in that style space here.")


@route("GET", "/v1/jobs", "read")
def _jobs(state: State, seen: Seen, *_: object) -> Reply:
    wanted, kind, base = (seen.param(name) for name in ("state", "kind", "base"))
    newest = sorted(state.jobs.values(), key=lambda job: (job.created, job.id), reverse=True)
    kept = [
        (f"{number:06d}", job)
        for number, job in enumerate(newest)
        if wanted in {None, job.state} and kind in {None, job.kind} and base in {None, job.subject.partition("/")[0]}
    ]
    return page(seen, kept)


@route("GET", "/v1/jobs/*", "read")
def _job(state: State, _: Seen, names: list[str], __: str) -> Reply:
    return Reply.of(state.step(names[0]))


@route("DELETE", "/v1/jobs/*", "publish")
def _cancel(state: State, _: Seen, names: list[str], __: str) -> Reply:
    job = state.step(names[0])
    if job.state in {"queued", "running"}:
        state.jobs[job.id] = job.model_copy(update={"state": "cancelled", "updated": now()})
    return Reply.of(state.jobs[job.id], status=202)


@route("GET", "/v1/jobs/*/events", "read")
def _events(state: State, _: Seen, names: list[str], __: str) -> Reply:
    told = []
    while True:
        job = state.step(names[0])
        told.append(f"event: job\ndata: {job.model_dump_json()}\n\n")
        if job.state not in {"queued", "running"}:
            break
    return Reply(headers={"content-type": "text/event-stream"}, body="".join(told).encode())


@route("GET", "/v1/tokens", "admin")
def _tokens(state: State, seen: Seen, *_: object) -> Reply:
    return page(seen, [(id_, token.model_copy(update={"secret": None})) for id_, token in state.tokens.items()])


@route("POST", "/v1/tokens", "admin")
def _add_token(state: State, seen: Seen, *_: object) -> Reply:
    return Reply.of(state.add_token(read(TokenDraft, seen)), status=201)


@route("GET", "/v1/tokens/*", "admin")
def _token(state: State, _: Seen, names: list[str], __: str) -> Reply:
    return Reply.of(state.token(names[0]).model_copy(update={"secret": None}))


@route("DELETE", "/v1/tokens/*", "admin")
def _revoke(state: State, _: Seen, names: list[str], __: str) -> Reply:
    del state.tokens[state.token(names[0]).id]
    return Reply(status=204)


@route("GET", "/v1/audit", "admin")
def _audit(state: State, seen: Seen, *_: object) -> Reply:
    return page(seen, [(f"{number:06d}", entry) for number, entry in enumerate(reversed(state.audit))])
