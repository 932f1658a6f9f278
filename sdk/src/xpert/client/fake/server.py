"""The fake server: how requests come to it."""

from __future__ import annotations

import hmac
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx2

from xpert.client.fake.faults import Fault, Reply, Seen
from xpert.client.fake.loopback import listen
from xpert.client.fake.routes import ROUTES
from xpert.client.fake.state import State, adapter_bytes, now
from xpert.core.errors import AccessError, NotFoundError, XpertError
from xpert.wire import AuditEntry, BaseDraft, Pllm, PllmDraft
from xpert.wire.bodies import Scope

STORE = "http://store.fake"
SCOPES: tuple[Scope, ...] = ("read", "publish", "admin")


class FakeServer:
    """An XPerT server in memory.

    Parameters
    ----------
    tokens
        Token -> scope; none: everyone may do everything.
    job_steps
        So often a job is looked at before it has ended.
    cell_capacity
        pLLMs a cell of a catalogue holds; None: as many as fit into its bytes.

    Attributes
    ----------
    faults
        What is to go wrong, each once: append to it.
    seen
        The requests that came, oldest first.
    """

    def __init__(
        self, *, tokens: Mapping[str, Scope] | None = None, job_steps: int = 0, cell_capacity: int | None = None
    ) -> None:
        self.tokens = dict(tokens or {})
        self.state = State(job_steps=job_steps, cell_capacity=cell_capacity)
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._lock = threading.RLock()

    def add(self, base: str, name: str, *, words: Mapping[str, float] | None = None, folder: Path | None = None) -> Pllm:
        """Publish a pLLM, with these coefficients and the adapter in ``folder``, or a small one that is made up."""
        with self._lock:
            self.state.add_base(BaseDraft(name=base, source=f"fake:{base}"))
            if words is not None:
                self.state.words[base, name] = words
            files = {p.name: p.read_bytes() for p in folder.iterdir()} if folder else adapter_bytes(f"{base}/{name}")
            digests = {file: self.state.put(data) for file, data in files.items()}
            return self.state.add_pllm(PllmDraft(name=name, base=base, files=digests))

    def transport(self) -> httpx2.MockTransport:
        """Return a transport for `Client` and `AsyncClient` that asks this server."""
        return httpx2.MockTransport(self._mocked)

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Listen on the loopback interface while the block runs; yields the address.

        The store of signed addresses listens on a port of its own, as it is another host elsewhere.
        """
        store = listen(lambda seen: self.answer(seen, store=""))
        with store as where, listen(lambda seen: self.answer(seen, store=where)) as server:
            yield server

    def answer(self, seen: Seen, *, store: str = STORE) -> Reply:
        """Answer a request; ``store`` is where signed addresses lead."""
        with self._lock:
            self.seen.append(seen)
            fault = next((f for f in self.faults if seen.path.startswith(f.path)), None)
            if fault is None:
                return self._routed(seen, store)
            self.faults.remove(fault)
            seen, reply = fault.before(seen)
            return reply or fault.after(self._routed(seen, store))

    def _routed(self, seen: Seen, store: str) -> Reply:
        try:
            for method, pattern, scope, handler in ROUTES:
                found = pattern.fullmatch(seen.path)
                if found and method == ("GET" if seen.method == "HEAD" else seen.method):
                    who = self._check(seen, scope) if scope else ""
                    reply = handler(self.state, seen, [unquote(part) for part in found.groups()], store)
                    self._note(seen, who, reply.status)
                    return reply
            raise NotFoundError(f"There is no {seen.method} {seen.path} here.")
        except AccessError as error:
            return Reply.problem(error, status=403 if "authorization" in seen.headers else 401)
        except XpertError as error:
            return Reply.problem(error)

    def _check(self, seen: Seen, scope: Scope) -> str:
        """Return who asks."""
        if not self.tokens:
            return "everyone"
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        made = [(token.secret or "", token.scope, f"{token.name} ({token.id})") for token in self.state.tokens.values()]
        known = [*((secret, held, held) for secret, held in self.tokens.items()), *made]
        held, who = next(
            ((held, who) for secret, held, who in known if hmac.compare_digest(secret.encode(), given.encode())), (None, "")
        )
        if held is None:
            raise AccessError("This needs a valid token. Set XPERT_TOKEN.")
        if SCOPES.index(held) < SCOPES.index(scope):
            raise AccessError(f"This needs a token with the scope '{scope}', yours has '{held}'.")
        return who

    def _note(self, seen: Seen, who: str, status: int) -> None:
        if who and seen.method not in {"GET", "HEAD"}:
            told = {"token": who, "method": seen.method, "path": seen.path, "status": status, "request_id": "fake"}
            self.state.audit.append(AuditEntry.model_validate({"at": now(), **told}))

    def _mocked(self, request: httpx2.Request) -> httpx2.Response:
        seen = Seen(
            method=request.method,
            path=request.url.path,
            params=tuple(request.url.params.multi_items()),
            headers={key.lower(): value for key, value in request.headers.items()},
            body=request.content,
        )
        reply = self.answer(seen)
        body = b"" if request.method == "HEAD" else reply.body
        if reply.cut_after is None:
            return httpx2.Response(reply.status, headers=dict(reply.headers), content=body)
        if reply.cut_after == -1:
            raise httpx2.ReadError("the answer was lost")
        headers = {**reply.headers, "content-length": str(len(body))}
        return httpx2.Response(reply.status, headers=headers, stream=_Cut(body[: reply.cut_after]))


class _Cut(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx2.ReadError("the connection was cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        raise httpx2.ReadError("the connection was cut")
