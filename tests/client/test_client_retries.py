"""When another attempt is made, and after which wait."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
import trustme

from xpert.client import AsyncClient, Client, Retries
from xpert.client.fake import FakeServer, Fault
from xpert.core.errors import (
    ConflictError,
    InputError,
    StorageError,
    TooLargeError,
    TrainingError,
    UnavailableError,
    XpertError,
)

Connect = Callable[..., Any]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits between attempts instead of waiting."""
    found: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=found.append))

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    return found


def test_retry_after_is_respected(fake: FakeServer, connect: Connect, waits: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    fake.faults += [
        Fault(status=503, headers={"Retry-After": "7"}),
        Fault(error=UnavailableError("Too many requests."), status=429, headers={"Retry-After": soon}),
    ]
    assert connect(retries=Retries(jitter=0.5)).version().version == "fake"
    assert 7 <= waits[0] <= 7.5
    assert 28 <= waits[1] <= 30.5


def test_without_it_waits_grow_with_jitter(fake: FakeServer, connect: Connect, waits: list[float]) -> None:
    fake.faults += [Fault(status=502)] * 4
    connect(retries=Retries(first=1, longest=6, jitter=0.5, attempts=5)).version()
    for wait, least in zip(waits, (1, 2, 4, 6), strict=True):
        assert least <= wait <= min(6, least + 0.5)


def test_one_that_says_to_come_back_much_later_is_not_waited_for(fake: FakeServer, connect: Connect, waits: list[float]) -> None:
    fake.faults.append(Fault(status=503, headers={"Retry-After": "3600"}))
    with pytest.raises(UnavailableError, match="503"):
        connect(retries=Retries(patience=60)).version()
    assert waits == []


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(status=504), Fault(error=StorageError("No store.")), Fault(cut_after=3)]
)
def test_what_may_pass_is_tried_again(fake: FakeServer, connect: Connect, fault: Fault) -> None:
    fake.faults.append(fault)
    assert connect().version().version == "fake"
    assert len(fake.seen) == 2


@pytest.mark.parametrize("error", [ConflictError("c"), TooLargeError("t"), TrainingError("t"), InputError("i"), XpertError("x")])
def test_what_would_fail_again_is_not(fake: FakeServer, connect: Connect, error: XpertError) -> None:
    fake.faults.append(Fault(error=error))
    with pytest.raises(type(error)):
        connect().version()
    assert len(fake.seen) == 1


def test_after_so_many_attempts_it_ends(fake: FakeServer, connect: Connect) -> None:
    fake.faults += [Fault(status=503)] * 9
    with pytest.raises(UnavailableError, match="in between"):
        connect().version()
    assert len(fake.seen) == 4


def test_a_server_that_is_not_there(connect: Connect) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        where = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=rf"Cannot reach {where}, tried 4 times: .*offline=True"):
            connect(where).version()


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def ask(trusted: bool) -> str:
        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"version":"tls"}')
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
        where = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        verify = ssl.create_default_context()
        if trusted:
            authority.configure_trust(verify)
        async with server, AsyncClient(where, cache=tmp_path, verify=verify) as client:
            return (await client.version()).version

    assert asyncio.run(ask(trusted=True)) == "tls"
    with pytest.raises(UnavailableError, match="certificate is not trusted"):
        asyncio.run(ask(trusted=False))


def test_it_works_without_sockets(tmp_path: Path) -> None:
    fake = FakeServer()
    fake.add("starter", "mine")
    fake.faults.append(Fault(path="/store/", cut_after=20))
    with Client("http://fake", cache=tmp_path / "a", transport=fake.transport(), retries=Retries(first=0, jitter=0)) as client:
        assert client.pull("starter", "mine").is_dir()
    assert [seen.headers.get("range") for seen in fake.seen if seen.path.startswith("/store/")][:2] == [None, "bytes=20-"]

    async def ask() -> str:
        async with AsyncClient("http://fake", cache=tmp_path / "b", transport=fake.transport()) as client:
            return (await client.catalogue("starter")).candidates.names[0]

    assert asyncio.run(ask()) == "mine"


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="attempts is 0"):
        Retries(attempts=0)
