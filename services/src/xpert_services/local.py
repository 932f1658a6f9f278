"""The embedded form: the API and one worker thread in one process, over a folder or a bucket."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from xpert.core.errors import XpertError
from xpert.core.files import cache_folder
from xpert.wire import TokenDraft
from xpert_services.api import Limits, create_app
from xpert_services.builder.handler import Builder
from xpert_services.explainer.handler import Explainer
from xpert_services.explainer.models import Models
from xpert_services.exposing import LOOPBACK, exposed
from xpert_services.jobs import KINDS, Handler, Worker
from xpert_services.merger.handler import Merger
from xpert_services.sampling import sampling
from xpert_services.services import Services, Settings
from xpert_services.store import open_store

END_S = 20.0
WORKER = "worker"
LOOK_S, GARBAGE_S = 300.0, 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a server is and how it runs.

    Attributes
    ----------
    store
        Folder or ``s3://`` URL.
    host, port
        Where it listens; port 0 takes a free one.
    public_url
        What its addresses begin with behind a proxy.
    certificate, key
        Files for TLS.
    metrics_port
        Where Prometheus fetches metrics, on the loopback address; without, none are kept.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 8400
    public_url: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    metrics_port: int | None = None
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)


def make_worker(
    services: Services, *, cache: Path | None = None, lease_s: float = 30.0, kinds: Collection[str] = KINDS
) -> Worker:
    """Return a worker for the services' jobs.

    Parameters
    ----------
    services
        What it works on.
    cache
        Folder for answers while they are made.
    lease_s
        See `Worker`.
    kinds
        Which jobs it takes.
    """
    models = Models(services.store, services.bases)
    explainer = Explainer(
        services.store,
        models,
        spaces=services.spaces,
        pllms=services.pllms,
        quarantine=services.quarantine,
        catalogues=services.catalogues,
        asking=services.settings.asking,
        cache=cache or cache_folder() / "server-answers",
    )
    merger = Merger(services.store, models, pllms=services.pllms, explanations=services.explanations)
    builder = Builder(services.store, models, spaces=services.spaces)
    handlers: dict[str, Handler] = {"explain": explainer, "merge": merger, "space": builder}
    return Worker(services.jobs, {kind: handlers[kind] for kind in kinds}, lease_s=lease_s)


@contextmanager
def working(worker: Worker) -> Iterator[None]:
    """Let a worker work in a thread of its own while the block runs."""
    thread = threading.Thread(target=worker.run, name=WORKER, daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        # What it cannot give back in this time is taken up by another worker when its lease has run out.
        thread.join(END_S)


@contextmanager
def keeping_house(services: Services) -> Iterator[None]:
    """Bring catalogues up to date now and then, and free what nothing refers to once a day, while the block runs."""
    over = threading.Event()

    def keep() -> None:
        last = time.monotonic()
        while not over.wait(LOOK_S):
            try:
                services.catalogues.refresh_all()
                if time.monotonic() - last >= GARBAGE_S:
                    last = time.monotonic()
                    log.info("Freed: %s", services.store.collect_garbage())
            except XpertError as error:
                log.warning("Keeping house failed and is tried again: %s", error)

    thread = threading.Thread(target=keep, name="house", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(END_S)


def serve(site: Site) -> None:
    """Serve until the process is asked to end (SIGINT, SIGTERM)."""
    services = Services.over(open_store(site.store), site.settings)
    _show_first_token(services)
    services.spaces.default()
    try:
        services.catalogues.refresh_all()
    except XpertError as error:
        log.error("A catalogue could not be brought up to date: %s", error)
    config = uvicorn.Config(
        create_app(services, limits=site.limits, public_url=site.public_url),
        host=site.host,
        port=site.port,
        ssl_certfile=site.certificate,
        ssl_keyfile=site.key,
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=int(END_S),
    )
    with exposed(site.metrics_port) as port, working(make_worker(services)), keeping_house(services):
        if port is None:
            _Server(config).run()
        else:
            sys.stdout.write(f"Metrics at http://{LOOPBACK}:{port}/metrics\n")
            with sampling(services):
                _Server(config).run()


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen."""
        await super().startup(sockets)  # type: ignore[arg-type]
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                scheme = "https" if self.config.is_ssl else "http"
                sys.stdout.write(f"Serving at {scheme}://{f'[{host}]' if ':' in host else host}:{port}\n")
        sys.stdout.flush()


def _show_first_token(services: Services) -> None:
    if services.tokens.any():
        return
    made = services.tokens.make(TokenDraft(name="first", scope="admin"))
    sys.stdout.write(f"The first administrator's token, shown this once: {made.secret}\n")
    sys.stdout.flush()
