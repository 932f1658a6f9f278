"""The operator's process: the watch, the queue, and whoever leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path

import httpx2
import kopf
from lightkube import AsyncClient as ClusterClient
from lightkube import KubeConfig
from lightkube.core.exceptions import ConfigError
from prometheus_client import start_http_server

from xpert.client import AsyncClient, Retries
from xpert.core.errors import InputError
from xpert_operator import metrics
from xpert_operator.cluster import MANAGER, Cluster
from xpert_operator.controller import Controller
from xpert_operator.leading import Leader, LostError
from xpert_operator.listing import keep_in_sync, sync, wait_for_definitions
from xpert_operator.mirror import Key, Mirror
from xpert_operator.server import Server
from xpert_operator.settings import Settings
from xpert_operator.watching import registry
from xpert_operator.workqueue import Queue

PATIENCE = Retries(attempts=3, longest=2.0)
"""The client's own: what lasts longer is the queue's affair, and said in a condition."""

log = logging.getLogger(__name__)


class Early:
    """Keeps what the watch brings before there is a queue for it."""

    def __init__(self) -> None:
        self.queue: Queue | None = None

    def __call__(self, key: Key) -> None:
        """Pass a resource on."""
        if self.queue is not None:
            self.queue.add(key)


async def run(settings: Settings) -> None:
    """Work until the process is asked to end, or the lease is lost.

    Raises
    ------
    LostError
        Another replica works: this process has to begin anew.
    """
    changed = Early()
    mirror = Mirror(changed)
    stop = asyncio.Event()
    async with _cluster_client() as cluster_client, _server_client(settings) as client:
        server = Server(client, asyncio.Semaphore(settings.downloads), settings.most_mib << 20)
        cluster = Cluster(cluster_client)
        controller = Controller(cluster, server, mirror, explanations=settings.explanations)
        queue = Queue(controller.look, settings.drift_s)
        metrics.HELD.set_function(lambda: len(mirror))
        metrics.WAITING.set_function(lambda: len(queue))
        metrics.LEADING.set(0 if settings.lease else 1)
        if settings.metrics_port:
            start_http_server(settings.metrics_port)
        await wait_for_definitions(cluster, settings.namespaces)
        watch = asyncio.create_task(_watch(settings, mirror, stop))

        async def take_up() -> None:
            """Look at everything that is there, and from now on at what changes."""
            await sync(mirror, cluster, settings.namespaces)
            changed.queue = queue
            for key in mirror:
                queue.add(key)
            async with asyncio.TaskGroup() as group:
                group.create_task(queue.run(settings.workers))
                group.create_task(keep_in_sync(mirror, cluster, settings.namespaces, settings.drift_s))

        work = asyncio.create_task(_lead(settings, cluster_client, take_up) if settings.lease else take_up())
        try:
            await _first_end(watch, work)
        finally:
            work.cancel()
            stop.set()
            await asyncio.gather(watch, work, return_exceptions=True)


async def _watch(settings: Settings, mirror: Mirror, stop: asyncio.Event) -> None:
    health = f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None
    await kopf.operator(
        registry=registry(mirror, watch_secrets=settings.watch_secrets),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=health,
        stop_flag=stop,
    )


async def _first_end(*tasks: asyncio.Task[None]) -> None:
    """Wait until one of the tasks has ended, and raise what it ended with; the others go on."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _lead(settings: Settings, client: ClusterClient, take_up: Callable[[], Coroutine[None, None, None]]) -> None:
    """Work while this replica holds the lease."""
    leader = Leader(
        client,
        name=settings.lease,
        namespace=settings.lease_namespace,
        identity=settings.identity,
        lease_s=settings.lease_s,
    )
    await leader.acquire()
    keep = asyncio.create_task(leader.keep())
    work = asyncio.create_task(take_up())
    try:
        await _first_end(keep, work)
    finally:
        keep.cancel()
        work.cancel()
        await asyncio.gather(keep, work, return_exceptions=True)
        if not (keep.done() and not keep.cancelled() and isinstance(keep.exception(), LostError)):
            with contextlib.suppress(Exception):
                await leader.release()


@contextlib.asynccontextmanager
async def _cluster_client() -> AsyncIterator[ClusterClient]:
    try:
        client = ClusterClient(KubeConfig.from_env(), field_manager=MANAGER, timeout=httpx2.Timeout(20.0))
    except ConfigError as error:
        raise InputError(
            f"The cluster is not known: {error}. Run in a pod with a service account, or set KUBECONFIG to a file."
        ) from error
    try:
        yield client
    finally:
        await client.close()


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"The token's file '{file}' cannot be read: {error}. Mount the Secret there.") from error


@contextlib.asynccontextmanager
async def _server_client(settings: Settings) -> AsyncIterator[AsyncClient]:
    # Read at each request: the kubelet puts a new token there when the Secret changes.
    token = partial(_read_token, settings.token_file) if settings.token_file else None
    verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=settings.ca) if settings.ca else True
    async with AsyncClient(settings.server, token=token, retries=PATIENCE, verify=verify) as client:
        yield client
