"""Who holds the lease while the API server restarts."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
from lightkube import AsyncClient, KubeConfig

from xpert_operator.leading import Leader, LostError

LEASE_S = 15.0


class Leap(selectors.SelectSelector):
    """Passes the time that nobody has anything to do in at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(None if timeout is None else 0)


class Clock(asyncio.SelectorEventLoop):
    """A loop with a time of its own, which a busy machine does not stretch."""

    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        return self.leap.now


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(main)


class ApiServer:
    """Keeps one Lease; away, or silent, for as many requests as are said."""

    def __init__(self, *, away: int = 0) -> None:
        self.away, self.silent, self.refused, self.version = away, 0, 0, 0
        self.back_at = 0.0
        self.lease: dict[str, Any] = {}

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.silent:
            self.silent -= 1
            self.refused += 1
            await asyncio.Event().wait()
        if self.away or asyncio.get_running_loop().time() < self.back_at:
            self.away = max(0, self.away - 1)
            self.refused += 1
            raise httpx2.ConnectError("Connection refused", request=request)
        if request.method == "GET" and not self.lease:
            return httpx2.Response(404, json={"kind": "Status", "code": 404, "message": "not found"})
        if request.method in {"POST", "PUT"}:
            self.version += 1
            self.lease = json.loads(request.content)
            self.lease["metadata"]["resourceVersion"] = str(self.version)
        return httpx2.Response(200, json=self.lease)

    def leader(self) -> Leader:
        places = {"clusters": [{"name": "c", "cluster": {"server": "http://api"}}], "users": [{"name": "u", "user": {}}]}
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        config = KubeConfig.from_dict({**places, "contexts": contexts, "current-context": "x"})
        client = AsyncClient(config, transport=httpx2.MockTransport(self.answer))
        return Leader(client, name="xpert-operator", namespace="xpert", identity="a", lease_s=LEASE_S)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(10 * LEASE_S):
        while not holds():
            await asyncio.sleep(0.1)


def test_one_that_stands_by_waits_for_the_api_server() -> None:
    server = ApiServer(away=2)

    run(server.leader().acquire())
    assert server.refused == 2 and server.lease["spec"]["holderIdentity"] == "a"


@pytest.mark.parametrize(("trouble", "n"), [("away", 2), ("silent", 1)])  # refused, or never answered
def test_a_restart_of_the_api_server_costs_no_lease(trouble: str, n: int) -> None:
    server = ApiServer()

    async def main() -> None:
        leader = server.leader()
        await leader.acquire()
        keeping = asyncio.create_task(leader.keep())
        await until(lambda: server.version >= 2)
        setattr(server, trouble, n)
        await until(lambda: server.version >= 4)
        assert not keeping.done() and server.refused == n
        keeping.cancel()

    run(main())


@pytest.mark.parametrize("since", [0.1, 1.0, 1.9, 3.0, 4.9])
def test_an_api_server_that_is_soon_back_costs_no_lease_whenever_it_goes(since: float) -> None:
    server = ApiServer()

    async def main() -> None:
        leader = server.leader()
        await leader.acquire()
        keeping = asyncio.create_task(leader.keep())
        await asyncio.sleep(since)
        server.back_at = since + LEASE_S * 0.4
        await asyncio.sleep(LEASE_S)
        assert not keeping.done() and server.refused
        keeping.cancel()

    run(main())


def test_an_api_server_that_stays_away_costs_it() -> None:
    server = ApiServer()

    async def main() -> None:
        leader = server.leader()
        await leader.acquire()
        server.away = 10**6
        with pytest.raises(LostError, match="could not be renewed in time"):
            await leader.keep()

    run(main())
