"""The server's address and who asks: tokens, and to whom they are shown."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from httpx2 import URL, InvalidURL

from xpert.client.exchange import Request
from xpert.core.errors import AccessError, InputError, NotFoundError, UnavailableError
from xpert.core.files import read_bytes, sha256_hex, write_atomic

PORTS = {"http": 80, "https": 443}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SIGNATURES = ("x-amz-signature", "signature")
SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")

TokenSource = str | Callable[[], str]
"""A token, or what returns it: asked at each request, for tokens that are replaced while the client is open."""


class PlainHttpWarning(UserWarning):
    """A token goes over the network unencrypted."""


def origin(url: URL) -> tuple[str, str, int]:
    """Return scheme, host and port of an address."""
    return url.scheme, url.host, url.port or PORTS.get(url.scheme, 0)


@dataclass(frozen=True)
class Link:
    """A server and the token for it.

    Parameters
    ----------
    server
        Its address, such as ``https://xpert.example.org``, or with a path where it stands behind a proxy.
    token
        Never printed, and sent to this server's origin alone.

    Raises
    ------
    InputError
        The address is none, or the token holds what no header may.
    """

    server: str
    token: TokenSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            url = URL(self.server.rstrip("/"))
        except (InvalidURL, TypeError) as error:
            raise InputError(
                f"'{self.server}' is no server address: {error}. Write for example https://xpert.example.org."
            ) from error
        if url.scheme not in PORTS or not url.host or url.userinfo or url.query or url.fragment:
            shown = re.sub(r"//[^/@]*@", "//…@", self.server)
            raise InputError(f"'{shown}' is no server address. Write https://HOST or https://HOST:PORT, no user and no query.")
        object.__setattr__(self, "server", str(url))
        if self.token is not None:
            self._bearer()
        if self.token and url.scheme == "http" and not _here(url.host):
            warnings.warn(
                f"The token goes to {self.server} unencrypted. Use https:// unless the network is your own.",
                PlainHttpWarning,
                stacklevel=5,
            )

    @cached_property
    def url(self) -> URL:
        """The address, parsed."""
        return URL(self.server)

    @cached_property
    def key(self) -> str:
        """A short name of this server for the cache."""
        return sha256_hex(self.server.encode())[:16]

    def address(self, request: Request) -> URL:
        """Return the whole address of a request."""
        found = URL(request.target) if "://" in request.target else URL(f"{self.server}{request.target}")
        return found.copy_merge_params(list(request.params)) if request.params else found

    def headers(self, request: Request, url: URL) -> dict[str, str]:
        """Return the headers to send to ``url``: the token where that is the server's own, and not signed."""
        found = {"Accept": "application/json, application/problem+json", **request.headers}
        if not self.foreign(url):
            found |= _trace() if self.token is None else {"Authorization": f"Bearer {self._bearer()}", **_trace()}
        if request.file is not None:
            found["Content-Length"] = str(request.file.stat().st_size - request.start)
        return found

    def _bearer(self) -> str:
        token = self.token() if callable(self.token) else self.token or ""
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise InputError("The token is empty or holds spaces or special characters. Copy it again, whole.")
        return token

    def foreign(self, url: URL) -> bool:
        """Say whether ``url`` needs no token: it is signed, or on another host, port or scheme than the server."""
        return origin(url) != origin(self.url) or any(key.lower() in SIGNATURES for key in url.params)

    def redirected(self, method: str, url: URL, status: int, headers: Mapping[str, str]) -> URL | None:
        """Return where an answer sends a reader, None where it is the answer itself.

        Raises
        ------
        UnavailableError
            It sends elsewhere than to an address of http or https.
        """
        if method not in {"GET", "HEAD"} or status not in REDIRECTS or not headers.get("location"):
            return None
        found = url.join(headers["location"])
        if found.scheme not in PORTS:
            raise UnavailableError(
                f"{self.server} sends the download to '{found.scheme}:', which is no web address. Tell its owner."
            )
        return found


def segment(*names: str) -> str:
    """Write names as the end of a path.

    Raises
    ------
    InputError
        A name could not be one on any server.
    """
    wrong = [name for name in names if not SAFE.match(name)]
    if wrong:
        raise InputError(
            f"No name on a server: {', '.join(map(repr, wrong))}. Names have letters, digits, dots, dashes, underscores."
        )
    return "/".join(quote(name, safe="") for name in names)


def config_folder() -> Path:
    """Return the folder of the user's settings: ``xpert`` in ``XDG_CONFIG_HOME`` or ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "xpert"


def find_token(server: str) -> str | None:
    """Find the token: ``XPERT_TOKEN``, the file ``XPERT_TOKEN_FILE`` names, or the file ``token`` of the settings.

    The last is used for the server alone that `save_token` wrote beside it, where it did.

    Raises
    ------
    AccessError
        The file can be read by others.
    NotFoundError
        ``XPERT_TOKEN_FILE`` names none.
    """
    if os.environ.get("XPERT_TOKEN"):
        return os.environ["XPERT_TOKEN"].strip()
    named = os.environ.get("XPERT_TOKEN_FILE")
    if named:
        return read_token(Path(named))
    path, owner = config_folder() / "token", saved_server()
    if not path.exists() or (owner and origin(URL(owner)) != origin(URL(server))):
        return None
    return read_token(path)


def read_token(path: Path) -> str:
    """Read a token file.

    Raises
    ------
    AccessError
        Others can read it, so the token may be known.
    NotFoundError
        There is none.
    """
    data = read_bytes(path)
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        raise AccessError(f"The token file '{path}' can be read by others (mode {mode:03o}). Close it: chmod 600 '{path}'")
    return data.decode(errors="replace").strip()


def saved_server() -> str | None:
    """Return the server that the saved token is for."""
    try:
        return read_bytes(config_folder() / "server").decode(errors="replace").strip() or None
    except NotFoundError:
        return None


def save_token(token: str, server: str) -> Path:
    """Write token and server to the user's settings, the token readable by its owner alone; returns the token's file."""
    folder = config_folder()
    path = folder / "token"
    path.unlink(missing_ok=True)  # never the old token for the new server, not even for a moment
    write_atomic(folder / "server", f"{server}\n".encode())
    write_atomic(path, f"{token}\n".encode(), mode=0o600)
    return path


def _trace() -> dict[str, str]:
    """Return the headers that join the server's work to the caller's trace, where one is under way."""
    # Who did not import it has no trace; importing it here would cost everybody time.
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found: dict[str, str] = {}
    # Not the global propagator: it sends baggage too, which may hold anything.
    TraceContextTextMapPropagator().inject(found)
    return found


def _here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
