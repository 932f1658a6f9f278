"""Whole listings beside the watch: before work begins, and from time to time."""

from __future__ import annotations

import asyncio
import logging

import httpx2
from lightkube.core.exceptions import ApiError

from xpert_operator.cluster import Cluster
from xpert_operator.mirror import Body, Key, Mirror, key_of
from xpert_operator.resources import GROUP, KINDS

PAUSE = 2.0
"""Seconds until a listing that failed is asked for again."""

log = logging.getLogger(__name__)


async def sync(mirror: Mirror, cluster: Cluster, namespaces: tuple[str, ...]) -> None:
    """Bring the mirror to what is there, however long the API server lets wait.

    A watch brings resources one after the other and does not say when it has brought all: whoever worked on the first would find
    that their base model is missing, and say so. Nor does it tell, after it was cut, what was deleted meanwhile.
    """
    while True:
        try:
            for kind in KINDS:
                await _sync(kind.name, namespaces if kind.is_namespaced else (), mirror, cluster)
            return
        except (ApiError, httpx2.HTTPError) as error:
            log.warning("The resources could not be listed: %s", error)
            await asyncio.sleep(PAUSE)


async def wait_for_definitions(cluster: Cluster, namespaces: tuple[str, ...]) -> None:
    """Wait until the API server knows our kinds: a watch that begins before never sees any of them."""
    while True:
        try:
            missing = [
                f"{kind.plural}.{GROUP}"
                for kind in KINDS
                if not await cluster.is_defined(kind.name, namespaces[0] if namespaces and kind.is_namespaced else None)
            ]
            if not missing:
                return
            log.warning("The cluster does not know %s. Install the definitions: kubectl xpert install", ", ".join(missing))
        except (ApiError, httpx2.HTTPError) as error:
            log.warning("The API server could not be asked for the definitions: %s", str(error) or type(error).__name__)
        await asyncio.sleep(PAUSE)


async def keep_in_sync(mirror: Mirror, cluster: Cluster, namespaces: tuple[str, ...], every_s: float) -> None:
    """Compare with a listing from time to time, for ever."""
    while True:
        await asyncio.sleep(every_s)
        await sync(mirror, cluster, namespaces)


async def _sync(kind: str, namespaces: tuple[str, ...], mirror: Mirror, cluster: Cluster) -> None:
    listed: list[Key] = []

    def take(body: Body) -> None:
        mirror.put(body)
        listed.append(key_of(body))

    versions = [await cluster.listing(kind, namespace, take) for namespace in namespaces or (None,)]
    mirror.settle(kind, listed, min(versions))
