"""A fake server on real sockets, and both clients behind one face so that every test asks each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_cases import write_adapter

from xpert.client import AsyncClient, Cache, Client, Retries
from xpert.client.fake import FakeServer

QUICK = Retries(attempts=4, first=0, longest=0, jitter=0)


class Awaited:
    """An `AsyncClient` that is called like a `Client`."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name == "cache":
            return found

        def run(*args: Any, **options: Any) -> Any:
            async def whole() -> Any:
                came = found(*args, **options)
                return [item async for item in came] if hasattr(came, "__aiter__") else await came

            return self._loop.run_until_complete(whole())

        return run


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XPERT_TOKEN", "XPERT_TOKEN_FILE", "XPERT_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XPERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def url(fake: FakeServer) -> Iterator[str]:
    with fake.serve() as found:
        yield found


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make a client of either kind for the fake server."""
    loop = asyncio.new_event_loop()
    made: list[Any] = []

    def make(server: str = url, **options: Any) -> Any:
        options = {"cache": Cache(tmp_path / "kept"), "retries": QUICK, **options}
        client = Client(server, **options) if request.param == "blocking" else Awaited(AsyncClient(server, **options), loop)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of about 250 KB."""
    return write_adapter(tmp_path / "mine", "mine", width=16384)
