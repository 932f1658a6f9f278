"""What both clients are made of: the server, the token, the cache, how patient they are."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from xpert.client.answers import Retries
from xpert.client.cache import Cache
from xpert.client.exchange import Answer, Exchange, Request
from xpert.client.link import Link, TokenSource, find_token
from xpert.core.errors import UnavailableError

HOPS = 4
AGENT = "xpert"
TIMEOUT = httpx2.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The parts of a client.

    Attributes
    ----------
    link, cache, retries
        Whom it asks, where it keeps what came, how often it tries.
    offline
        It asks nobody.
    """

    link: Link
    cache: Cache
    retries: Retries
    offline: bool

    @classmethod
    def of(
        cls, server: str, token: TokenSource | None, cache: Cache | Path | None, retries: Retries | None, *, offline: bool
    ) -> Setting:
        """Put the parts together, the token found where none is given."""
        address = Link(server).server
        return cls(
            link=Link(address, token if token is not None else find_token(address)),
            cache=cache if isinstance(cache, Cache) else Cache(cache),
            retries=retries or Retries(),
            offline=offline,
        )

    def __repr__(self) -> str:
        return f"Setting({self.link.server!r}, cache={self.cache!r}, offline={self.offline})"

    def patience(self, exchange: Exchange[Any]) -> dict[str, Any]:
        """Return what `stamina.retry_context` takes."""
        retries = self.retries
        return {
            "on": retries.wait,
            "attempts": min(retries.attempts, exchange.attempts or retries.attempts),
            "timeout": retries.total or None,
            "wait_initial": retries.first,
            "wait_max": retries.longest,
            "wait_jitter": retries.jitter,
        }

    def check_online(self) -> None:
        """Refuse to ask anybody where the client is offline.

        Raises
        ------
        UnavailableError
            It is.
        """
        if self.offline:
            raise UnavailableError(
                f"This needs {self.link.server}, and the client is offline: it is not in the cache '{self.cache.folder}'. "
                "Fetch it once while online."
            )

    def arguments(self, request: Request, url: httpx2.URL) -> dict[str, Any]:
        """Return what httpx2 builds a request of, its body apart."""
        return {"method": request.method, "url": url, "headers": self.link.headers(request, url)}

    def answer(self, request: Request, url: httpx2.URL, response: httpx2.Response) -> Answer:
        """Return status and headers of an answer as operations see them."""
        small = {key.lower(): value for key, value in response.headers.items()}
        foreign = self.link.foreign(url)
        return Answer(method=request.method, url=str(url), status=response.status_code, headers=small, foreign=foreign)

    def circles(self) -> UnavailableError:
        """Say that the server sends from one address to the next."""
        return UnavailableError(f"{self.link.server} sends from one address to the next, {HOPS} times. Tell its owner.")


def http_options(verify: ssl.SSLContext | bool, timeout: httpx2.Timeout | float | None) -> dict[str, Any]:
    """Return what both kinds of httpx2 clients take."""
    return {"verify": verify, "timeout": timeout or TIMEOUT, "headers": {"User-Agent": AGENT}, "follow_redirects": False}
