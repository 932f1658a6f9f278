"""The client for code under asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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


class AsyncClient:
    """A server, from code under asyncio: `Client`, with every method awaited and every list read by ``async for``.

    Files are read, hashed and copied in threads, beside the event loop.
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
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._setting = Setting.of(server, token, cache, retries, offline=offline)
        self._http = httpx2.AsyncClient(transport=transport, **http_options(verify, timeout))

    def __repr__(self) -> str:
        return f"AsyncClient({self.server!r}, offline={self._setting.offline})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self._http.aclose()

    @property
    def server(self) -> str:
        """See `Client.server`."""
        return self._setting.link.server

    @property
    def cache(self) -> Cache:
        """See `Client.cache`."""
        return self._setting.cache

    async def version(self) -> Version:
        """See `Client.version`."""
        return await self._run(publishing.version())

    def bases(self) -> AsyncIterator[Base]:
        """See `Client.bases`."""
        return self._all(lambda after: publishing.bases(after, PAGE))

    async def base(self, name: str) -> Base:
        """See `Client.base`."""
        return await self._run(publishing.get(Base, f"/v1/bases/{segment(name)}"))

    async def add_base(self, name: str, source: str) -> Base:
        """See `Client.add_base`."""
        return await self._run(publishing.add_base(name, source))

    def spaces(self) -> AsyncIterator[Space]:
        """See `Client.spaces`."""
        return self._all(lambda after: publishing.spaces(after, PAGE))

    async def add_space(self, path: Path, *, progress: Progress | None = None) -> Space:
        """See `Client.add_space`."""
        return await self._run(publishing.add_space(path, progress=progress))

    async def build_space(
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
        """See `Client.build_space`."""
        wanted = publishing.space_draft(name, version, encoder)
        return await self._run(publishing.build_space(exemplars, wanted, words, probes, progress=progress))

    async def describe_space(self, digest: str) -> Space:
        """See `Client.describe_space`."""
        return await self._run(publishing.get(Space, f"/v1/spaces/{segment(digest)}"))

    async def space(self, digest: str, *, progress: Progress | None = None) -> Path:
        """See `Client.space`."""
        return await self._run(catalogues.space(self.cache, digest, progress=progress))

    def pllms(
        self, base: str | None = None, *, words: Mapping[str, float] | None = None, page: int = PAGE
    ) -> AsyncIterator[Pllm]:
        """See `Client.pllms`."""
        return self._all(lambda after: publishing.pllms(base, words or {}, after, page))

    async def pllm(self, base: str, name: str, *, space: str | None = None) -> Pllm:
        """See `Client.pllm`."""
        return await self._run(publishing.get(Pllm, f"/v1/pllms/{segment(base, name)}", space=space))

    def answers(self, base: str, name: str) -> AsyncIterator[SampleAnswer]:
        """See `Client.answers`."""
        return self._all(lambda after: publishing.answers(f"/v1/pllms/{segment(base, name)}", after, PAGE))

    async def upload_adapter(self, folder: Path, *, progress: Progress | None = None) -> dict[str, str]:
        """See `Client.upload_adapter`."""
        return await self._run(publishing.upload_adapter(folder, progress=progress))

    async def register(self, base: str, name: str, files: Mapping[str, str], *, publish: bool = True) -> Pllm:
        """See `Client.register`."""
        return await self._run(publishing.register(base, name, files, publish=publish))

    async def push(
        self,
        folder: Path,
        base: str,
        name: str,
        *,
        publish: bool = True,
        progress: Progress | None = None,
        key: SecretKey | None = None,
    ) -> Pllm:
        """See `Client.push`."""
        return await self._run(publishing.push(folder, base, name, publish=publish, progress=progress, key=key))

    async def publish(self, base: str, name: str, *, is_published: bool = True) -> Pllm:
        """See `Client.publish`."""
        return await self._run(publishing.change(f"/v1/pllms/{segment(base, name)}", is_published=is_published))

    async def delete(self, base: str, name: str) -> None:
        """See `Client.delete`."""
        await self._run(publishing.delete(f"/v1/pllms/{segment(base, name)}"))

    async def explain(self, base: str, *pllms: str, space: str | None = None) -> Job:
        """See `Client.explain`."""
        return await self._run(publishing.explain(base, pllms, space))

    async def merge(self, base: str, name: str, sources: Mapping[str, float], *, rank: int | None = None) -> Job:
        """See `Client.merge`."""
        return await self._run(publishing.merge(base, name, sources, rank))

    def jobs(self, *, state: JobState | None = None, kind: JobKind | None = None, base: str | None = None) -> AsyncIterator[Job]:
        """See `Client.jobs`."""
        return self._all(lambda after: publishing.jobs(after, PAGE, state=state, kind=kind, base=base))

    async def job(self, id_: str) -> Job:
        """See `Client.job`."""
        return await self._run(publishing.get(Job, f"/v1/jobs/{segment(id_)}"))

    async def cancel(self, id_: str) -> None:
        """See `Client.cancel`."""
        await self._run(publishing.delete(f"/v1/jobs/{segment(id_)}"))

    async def wait(self, id_: str, *, progress: Progress | None = None, timeout: float | None = None, poll: float = 1) -> Job:
        """See `Client.wait`."""
        return await self._run(jobs.wait(id_, progress=progress, timeout=timeout, poll=poll))

    async def catalogue(self, base: str, *, space: str | None = None) -> RemoteCatalogue:
        """See `Client.catalogue`."""
        link, offline = self._setting.link, self._setting.offline
        return await self._run(catalogues.catalogue(link, self.cache, base, space=space, offline=offline))

    async def catalogue_for(
        self,
        base: str,
        coefficients: NDArray[np.floating],
        *,
        space: str | None = None,
        cells: int = CELLS,
        most_whole: int | None = None,
    ) -> RemoteCatalogue:
        """See `Client.catalogue_for`."""
        link, offline = self._setting.link, self._setting.offline
        asked = catalogue_for(
            link, self.cache, base, coefficients, space=space, cells=cells, most_whole=most_whole, offline=offline
        )
        return await self._run(asked)

    async def catalogue_info(self, base: str, *, space: str | None = None) -> CatalogueInfo:
        """See `Client.catalogue_info`."""
        return await self._run(catalogues.catalogue_info(base, space))

    async def pull(
        self, base: str, name: str, out: Path | None = None, *, progress: Progress | None = None, trust: str | None = None
    ) -> Path:
        """See `Client.pull`."""
        link, offline = self._setting.link, self._setting.offline
        return await self._run(
            catalogues.pull(link, self.cache, base, name, out=out, progress=progress, offline=offline, trust=trust)
        )

    def tokens(self) -> AsyncIterator[Token]:
        """See `Client.tokens`."""
        return self._all(lambda after: access.tokens(after, PAGE))

    async def add_token(self, name: str, *, scope: Scope = "read", days: int | None = None) -> Token:
        """See `Client.add_token`."""
        return await self._run(access.add_token(name, scope, days))

    async def revoke_token(self, id_: str) -> None:
        """See `Client.revoke_token`."""
        await self._run(access.revoke_token(id_))

    def audit(self) -> AsyncIterator[AuditEntry]:
        """See `Client.audit`."""
        return self._all(lambda after: access.audit(after, PAGE))

    async def _all(self, page: Callable[[str | None], Operation[Page[T]]]) -> AsyncIterator[T]:
        after: str | None = None
        while True:
            found = await self._run(page(after))
            for item in found.items:
                yield item
            if found.next in {None, after}:
                return
            after = found.next

    async def _run(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                try:
                    came = await self._perform(effect)
                except Exception as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(came)
        except StopIteration as stop:
            done: T = stop.value
            return done
        finally:
            operation.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Work):
            return await asyncio.to_thread(effect.run)
        self._setting.check_online()
        number = 1
        try:
            async for attempt in stamina.retry_context(**self._setting.patience(effect)):
                number = attempt.num
                with attempt:
                    return await self._attempt(effect)
        except AttemptError as failure:
            raise failure.error from None
        except httpx2.TransportError as error:
            raise unreachable(error, server=self.server, attempts=number) from error
        raise AssertionError

    async def _attempt(self, exchange: Exchange[T]) -> T:
        for first in exchange.ahead():
            await self._attempt(first)
        setting, request = self._setting, exchange.request()
        url = setting.link.address(request)
        try:
            for _ in range(HOPS):
                body = _chunks(request.chunks()) if request.file is not None else request.body
                built = self._http.build_request(content=body, **setting.arguments(request, url))
                response = await self._http.send(built, stream=True)
                try:
                    onward = setting.link.redirected(request.method, url, response.status_code, response.headers)
                    if onward is None:
                        return await self._receive(exchange, setting.answer(request, url, response), response)
                    await response.aread()  # so that the connection can be used again
                    url = onward
                finally:
                    await response.aclose()
            raise setting.circles()
        finally:
            exchange.close()

    async def _receive(self, exchange: Exchange[T], head: Answer, response: httpx2.Response) -> T:
        if head.failed:
            answer = replace(head, body=await response.aread())
            if not exchange.refused(answer):
                raise check(answer)
            return exchange.result()
        exchange.accept(head)
        if exchange.events:
            async for event in httpx2.EventSource(response):
                if exchange.event(event):
                    break
        else:
            async for chunk in response.aiter_bytes():
                exchange.feed(chunk)
        return exchange.result()


async def _chunks(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
