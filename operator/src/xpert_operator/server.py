"""What the server has, and what it is asked for, by the SDK's client."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from xpert.client import AsyncClient
from xpert.core.errors import NotFoundError
from xpert.wire import Base, Job, Space
from xpert_operator.fetching import fetch
from xpert_operator.reconcile.views import AskExplanation, AskMerge, BuildSpace, Known, PushAdapter, SetPublished, SpaceKnown

FRESH_S = 5.0
"""So long a catalogue's version is taken to be the present one: it is for people to look at."""


@dataclass
class Server:
    """The server.

    Attributes
    ----------
    client
        With a token that may publish.
    downloads
        How many adapters are fetched at a time.
    most_bytes
        Largest file that is fetched.
    """

    client: AsyncClient
    downloads: asyncio.Semaphore
    most_bytes: int
    _versions: dict[tuple[str, str | None], tuple[float, str | None]] = field(default_factory=dict)

    async def base(self, name: str) -> Base | None:
        """Return a base model; None where there is none."""
        try:
            return await self.client.base(name)
        except NotFoundError:
            return None

    async def add_base(self, name: str, source: str) -> None:
        """Register a base model."""
        await self.client.add_base(name, source)

    async def pllm(self, base: str, name: str, *, space: str | None, serving: str | None, job: str | None) -> Known:
        """Return what the server has of a pLLM; ``job`` was last asked for, ``serving`` serves while ``space`` is rolled out."""
        try:
            found = await self.client.pllm(base, name, space=space)
        except NotFoundError:
            going = await self.job(job)
            # An older registration's explanation says nothing about the next one.
            return Known(job=going if going is not None and going.kind == "merge" else None)
        version = await self._version(base, space) if found.explanation and found.published else None
        going = await self.job(found.job) if found.explanation is None else None
        if serving is None or (found.explanation and (version or not found.published)):
            return Known(pllm=found, job=going, catalogue=version)
        is_served = await self._is_explained(base, name, serving)
        if is_served and found.published:
            version = await self._version(base, serving)
        return Known(pllm=found, job=going, catalogue=version, is_served=is_served)

    async def job(self, id_: str | None) -> Job | None:
        """Return a job; None where there is none."""
        if not id_:
            return None
        try:
            return await self.client.job(id_)
        except NotFoundError:
            return None

    async def space(self, digest: str | None, job: str | None) -> SpaceKnown:
        """Return what the server has of a style space, known by its digest or by the job that builds it."""
        going = None
        if digest is None:
            going = await self.job(job)
            digest = going.result.get("space") if going is not None and going.state == "succeeded" else None
        if digest is None:
            return SpaceKnown(job=going)
        found = await self._space(digest)
        return SpaceKnown(digest=found.digest, words=tuple(found.words), job=going) if found else SpaceKnown(job=going)

    async def push(self, action: PushAdapter, secret: Mapping[str, str], *, publish: bool) -> None:
        """Fetch an adapter and bring it to the server."""
        async with self.downloads:
            with tempfile.TemporaryDirectory(prefix="xpert-adapter-") as name:
                folder = Path(name)
                await asyncio.to_thread(fetch, action.uri, action.digest, secret, folder, most_bytes=self.most_bytes)
                await self.client.push(folder, action.base, action.name, publish=publish)

    async def merge(self, action: AskMerge) -> str:
        """Ask for a merge; returns its job."""
        return (await self.client.merge(action.base, action.name, dict(action.sources), rank=action.rank)).id

    async def explain(self, action: AskExplanation) -> str:
        """Ask for an explanation; returns its job."""
        return (await self.client.explain(action.base, action.name, space=action.space)).id

    async def build_space(self, action: BuildSpace, exemplars: str | None, probes: str | None) -> str:
        """Upload exemplars, and probes where there are some, and ask for a style space; returns its job."""
        with tempfile.TemporaryDirectory(prefix="xpert-exemplars-") as folder:
            texts, asked = _written(Path(folder) / "exemplars.jsonl", exemplars), _written(Path(folder) / "probes.txt", probes)
            job = await self.client.build_space(texts, name=action.name, words=action.words, probes=asked, encoder=action.encoder)
            return job.id

    async def publish(self, action: SetPublished) -> None:
        """Put a pLLM into the catalogue, or take it out."""
        await self.client.publish(action.base, action.name, is_published=action.publish)
        self._versions.clear()

    async def cancel(self, job: str) -> None:
        """Stop a job; that there is none is no error."""
        with contextlib.suppress(NotFoundError):
            await self.client.cancel(job)

    async def delete(self, base: str, name: str) -> None:
        """Delete a pLLM; that it is gone already is no error."""
        with contextlib.suppress(NotFoundError):
            await self.client.delete(base, name)

    async def _is_explained(self, base: str, name: str, space: str) -> bool:
        try:
            return (await self.client.pllm(base, name, space=space)).explanation is not None
        except NotFoundError:  # it was removed meanwhile
            return False

    async def _space(self, digest: str) -> Space | None:
        try:
            return await self.client.describe_space(digest)
        except NotFoundError:
            return None

    async def _version(self, base: str, space: str | None) -> str | None:
        held = self._versions.get((base, space))
        if held is None or monotonic() - held[0] > FRESH_S or held[1] is None:
            try:
                version = (await self.client.catalogue_info(base, space=space)).version
            except NotFoundError:
                version = None
            held = self._versions[base, space] = monotonic(), version
        return held[1]


def _written(path: Path, text: str | None) -> Path | None:
    if text is None:
        return None
    path.write_text(text, encoding="utf-8")
    return path
