"""The client for ordinary code."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
import numpy as np
import stamina
from numpy.typing import NDArray

from xpert.client import access, catalogues, jobs, publishing
from xpert.client.answers import Retries, check, unreachable
from xpert.client.cache import Cache
from xpert.client.catalogues import RemoteCatalogue
from xpert.client.cells import CELLS, catalogue_for
from xpert.client.exchange import Answer, AttemptError, Effect, Exchange, Operation, Pause, Progress, Work
from xpert.client.link import TokenSource, segment
from xpert.client.setting import HOPS, Setting, http_options
from xpert.core.signing import SecretKey
from xpert.wire import AuditEntry, Base, CatalogueInfo, Job, JobKind, JobState, Page, Pllm, SampleAnswer, Space, Token, Version
from xpert.wire.bodies import Scope

T = TypeVar("T")
PAGE = 100


class Client:
    """A server, from ordinary code; `AsyncClient` has the same methods.

    Reading works while the server is away, from what was fetched before: `catalogue` and `pull` then warn with
    `OfflineWarning`. Every other call raises `UnavailableError`.

    Parameters
    ----------
    server
        Its address, ``https://HOST``.
    token
        A token, or a function that returns it, asked at each request. Without: ``XPERT_TOKEN``, the file that
        ``XPERT_TOKEN_FILE`` names, or ``~/.config/xpert/token``.
    cache
        A `Cache`, or the folder for one.
    offline
        Ask nobody; take everything from the cache, without warnings.
    retries
        How patient to be.
    timeout
        Seconds without a byte after which an attempt has failed (30).
    verify
        TLS: False checks no certificates, a context says how to.
    transport
        What carries the requests, for tests: ``FakeServer().transport()``.

    Raises
    ------
    InputError
        The address or the token cannot be one.
    AccessError
        The token's file can be read by others.
    """

    def __init__(
        self,
        server: str,
        *,
        token: TokenSource | None = None,
        cache: Cache | Path | None = None,
        offline: bool = False,
        retries: Retries | None = None,
        timeout: httpx2.Timeout | float | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._setting = Setting.of(server, token, cache, retries, offline=offline)
        self._http = httpx2.Client(transport=transport, **http_options(verify, timeout))

    def __repr__(self) -> str:
        return f"Client({self.server!r}, offline={self._setting.offline})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def server(self) -> str:
        """The server's address."""
        return self._setting.link.server

    @property
    def cache(self) -> Cache:
        """Where fetched things are kept."""
        return self._setting.cache

    def version(self) -> Version:
        """Return what the server is; needs no token."""
        return self._run(publishing.version())

    def bases(self) -> Iterator[Base]:
        """List the base models."""
        return self._all(lambda after: publishing.bases(after, PAGE))

    def base(self, name: str) -> Base:
        """Return one base model."""
        return self._run(publishing.get(Base, f"/v1/bases/{segment(name)}"))

    def add_base(self, name: str, source: str) -> Base:
        """Register a base model by what the server loads it by: a folder there, ``starter:base`` or a hub name."""
        return self._run(publishing.add_base(name, source))

    def spaces(self) -> Iterator[Space]:
        """List the style spaces."""
        return self._all(lambda after: publishing.spaces(after, PAGE))

    def add_space(self, path: Path, *, progress: Progress | None = None) -> Space:
        """Upload and register a style space's file."""
        return self._run(publishing.add_space(path, progress=progress))

    def build_space(
        self,
        exemplars: Path | None,
        *,
        name: str,
        version: int = 1,
        words: Sequence[str] = (),
        probes: Path | None = None,
        encoder: str | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Have a style space built from a file of exemplars, lines ``{"id", "prompt", "style", "text"}``; None takes XPerT's own.

        Everyone with a token can read them: they are no place for anybody's private texts. The job's result names the space.
        ``words`` takes some of the styles; by default all. ``probes`` is a file of prompts, a line each, that base and pLLMs are
        asked where they are explained in this space; by default those that the server has. A server whose sentence encoder is
        not ``encoder`` refuses.
        """
        wanted = publishing.space_draft(name, version, encoder)
        return self._run(publishing.build_space(exemplars, wanted, words, probes, progress=progress))

    def describe_space(self, digest: str) -> Space:
        """Return what a style space is."""
        return self._run(publishing.get(Space, f"/v1/spaces/{segment(digest)}"))

    def space(self, digest: str, *, progress: Progress | None = None) -> Path:
        """Return the file of a style space, from the cache where it is there."""
        return self._run(catalogues.space(self.cache, digest, progress=progress))

    def pllms(self, base: str | None = None, *, words: Mapping[str, float] | None = None, page: int = PAGE) -> Iterator[Pllm]:
        """List pLLMs, of one base or with at least these coefficients, ``words={"poetic": 0.5}``; below zero: at most."""
        return self._all(lambda after: publishing.pllms(base, words or {}, after, page))

    def pllm(self, base: str, name: str, *, space: str | None = None) -> Pllm:
        """Return one pLLM, with its explanation in a style space, by default the server's."""
        return self._run(publishing.get(Pllm, f"/v1/pllms/{segment(base, name)}", space=space))

    def answers(self, base: str, name: str) -> Iterator[SampleAnswer]:
        """List what base and pLLM answered to the same probes; NotFoundError where it is not explained yet."""
        return self._all(lambda after: publishing.answers(f"/v1/pllms/{segment(base, name)}", after, PAGE))

    def upload_adapter(self, folder: Path, *, progress: Progress | None = None) -> dict[str, str]:
        """Upload an adapter's files where the server lacks them; returns file name -> digest."""
        return self._run(publishing.upload_adapter(folder, progress=progress))

    def register(self, base: str, name: str, files: Mapping[str, str], *, publish: bool = True) -> Pllm:
        """Register an uploaded adapter as a pLLM, in no catalogue without ``publish``; asked twice, it is one."""
        return self._run(publishing.register(base, name, files, publish=publish))

    def push(
        self,
        folder: Path,
        base: str,
        name: str,
        *,
        publish: bool = True,
        progress: Progress | None = None,
        key: SecretKey | None = None,
    ) -> Pllm:
        """Upload an adapter's folder, signed by a ``key``, and register it; the answer names the job that explains it."""
        return self._run(publishing.push(folder, base, name, publish=publish, progress=progress, key=key))

    def publish(self, base: str, name: str, *, is_published: bool = True) -> Pllm:
        """Put a pLLM into the catalogue, or take it out; it stays registered and explained."""
        return self._run(publishing.change(f"/v1/pllms/{segment(base, name)}", is_published=is_published))

    def delete(self, base: str, name: str) -> None:
        """Delete a pLLM."""
        self._run(publishing.delete(f"/v1/pllms/{segment(base, name)}"))

    def explain(self, base: str, *pllms: str, space: str | None = None) -> Job:
        """Ask for pLLMs to be explained anew, all of the base's where none is named."""
        return self._run(publishing.explain(base, pllms, space))

    def merge(self, base: str, name: str, sources: Mapping[str, float], *, rank: int | None = None) -> Job:
        """Ask for pLLMs (name -> weight) to be merged into a new one, exactly or truncated to ``rank``."""
        return self._run(publishing.merge(base, name, sources, rank))

    def jobs(self, *, state: JobState | None = None, kind: JobKind | None = None, base: str | None = None) -> Iterator[Job]:
        """List the jobs, those asked for last first: all, or those in a state, of a kind, of a base."""
        return self._all(lambda after: publishing.jobs(after, PAGE, state=state, kind=kind, base=base))

    def job(self, id_: str) -> Job:
        """Return one job."""
        return self._run(publishing.get(Job, f"/v1/jobs/{segment(id_)}"))

    def cancel(self, id_: str) -> None:
        """Cancel a job; its worker stops soon after."""
        self._run(publishing.delete(f"/v1/jobs/{segment(id_)}"))

    def wait(self, id_: str, *, progress: Progress | None = None, timeout: float | None = None, poll: float = 1) -> Job:
        """Wait until a job has succeeded; raises the error that it failed with.

        Parameters
        ----------
        id_
            The job.
        progress
            Told of its steps.
        timeout
            Seconds; None: as long as it takes. With one, the job is asked for again and again instead of listened to.
        poll
            Seconds between two looks where the server sends no events.
        """
        return self._run(jobs.wait(id_, progress=progress, timeout=timeout, poll=poll))

    def catalogue(self, base: str, *, space: str | None = None) -> RemoteCatalogue:
        """Return a base's catalogue, in the style space of a digest or the default one; what comes is what has changed."""
        link, offline = self._setting.link, self._setting.offline
        return self._run(catalogues.catalogue(link, self.cache, base, space=space, offline=offline))

    def catalogue_for(
        self,
        base: str,
        coefficients: NDArray[np.floating],
        *,
        space: str | None = None,
        cells: int = CELLS,
        most_whole: int | None = None,
    ) -> RemoteCatalogue:
        """Return what `xpert.select` needs for a user: the whole catalogue where it is small, else the cell near the user.

        The coefficients stay here. The cell is asked for among others, so that the server does not know which was wanted.

        Parameters
        ----------
        base
            The base model.
        coefficients
            Of the user's texts, ``space.coefficients(encoder.encode(...))``, shape (n_texts, n_axes).
        space
            Digest of the style space; by default the one that comes with the package.
        cells
            So many cells are asked for, the wanted one among decoys.
        most_whole
            A catalogue of up to so many bytes is fetched whole, which tells nothing; by default what the cells come to.
        """
        link, offline = self._setting.link, self._setting.offline
        asked = catalogue_for(
            link, self.cache, base, coefficients, space=space, cells=cells, most_whole=most_whole, offline=offline
        )
        return self._run(asked)

    def catalogue_info(self, base: str, *, space: str | None = None) -> CatalogueInfo:
        """Return version, size and names of a base's catalogue."""
        return self._run(catalogues.catalogue_info(base, space))

    def pull(
        self, base: str, name: str, out: Path | None = None, *, progress: Progress | None = None, trust: str | None = None
    ) -> Path:
        """Return the folder of an adapter, each file checked against its digest, and all signed by ``trust`` where it is given.

        Parameters
        ----------
        base, name
            The pLLM, by name or by its id in a compact catalogue.
        out
            Folder to copy it to; without, the cache's own is returned: to be read, and there until room is needed.
        progress
            Told of the bytes.
        trust
            Minisign public key, base64 or the key file's text.
        """
        link, offline = self._setting.link, self._setting.offline
        return self._run(catalogues.pull(link, self.cache, base, name, out=out, progress=progress, offline=offline, trust=trust))

    def tokens(self) -> Iterator[Token]:
        """List the tokens, without their secrets; this and what follows needs a token of scope "admin"."""
        return self._all(lambda after: access.tokens(after, PAGE))

    def add_token(self, name: str, *, scope: Scope = "read", days: int | None = None) -> Token:
        """Make a token; its ``secret`` is in this answer only. Without ``days`` it does not expire."""
        return self._run(access.add_token(name, scope, days))

    def revoke_token(self, id_: str) -> None:
        """Refuse a token from now on; on every replica within seconds."""
        self._run(access.revoke_token(id_))

    def audit(self) -> Iterator[AuditEntry]:
        """List who wrote what, newest first."""
        return self._all(lambda after: access.audit(after, PAGE))

    def _all(self, page: Callable[[str | None], Operation[Page[T]]]) -> Iterator[T]:
        after: str | None = None
        while True:
            found = self._run(page(after))
            yield from found.items
            if found.next in {None, after}:
                return
            after = found.next

    def _run(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                try:
                    came = self._perform(effect)
                except Exception as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(came)
        except StopIteration as stop:
            done: T = stop.value
            return done
        finally:
            operation.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Pause):
            return time.sleep(effect.seconds)
        if isinstance(effect, Work):
            return effect.run()
        self._setting.check_online()
        number = 1
        try:
            for attempt in stamina.retry_context(**self._setting.patience(effect)):
                number = attempt.num
                with attempt:
                    return self._attempt(effect)
        except AttemptError as failure:
            raise failure.error from None
        except httpx2.TransportError as error:
            raise unreachable(error, server=self.server, attempts=number) from error
        raise AssertionError

    def _attempt(self, exchange: Exchange[T]) -> T:
        for first in exchange.ahead():
            self._attempt(first)
        setting, request = self._setting, exchange.request()
        url = setting.link.address(request)
        try:
            for _ in range(HOPS):
                body = request.chunks() if request.file is not None else request.body
                built = self._http.build_request(content=body, **setting.arguments(request, url))
                response = self._http.send(built, stream=True)
                try:
                    onward = setting.link.redirected(request.method, url, response.status_code, response.headers)
                    if onward is None:
                        return self._receive(exchange, setting.answer(request, url, response), response)
                    response.read()  # so that the connection can be used again
                    url = onward
                finally:
                    response.close()
            raise setting.circles()
        finally:
            exchange.close()

    def _receive(self, exchange: Exchange[T], head: Answer, response: httpx2.Response) -> T:
        if head.failed:
            answer = replace(head, body=response.read())
            if not exchange.refused(answer):
                raise check(answer)
            return exchange.result()
        exchange.accept(head)
        if exchange.events:
            for event in httpx2.EventSource(response):
                if exchange.event(event):
                    break
        else:
            for chunk in response.iter_bytes():
                exchange.feed(chunk)
        return exchange.result()
