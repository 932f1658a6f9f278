"""What goes over the wire of the fake server, and what can be made to go wrong there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from xpert.core.errors import XpertError
from xpert.wire import problem_of
from xpert.wire.problems import MEDIA_TYPE


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that came; names of headers in small letters."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def param(self, name: str) -> str | None:
        """Return a parameter of the query."""
        return dict(self.params).get(name)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; ``cut_after``: the connection breaks after so many bytes of the body, -1: before the first of the head."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None

    @classmethod
    def of(cls, body: BaseModel, *, status: int = 200) -> Reply:
        """Answer with a body of REST v1."""
        return cls(status=status, headers={"content-type": "application/json"}, body=body.model_dump_json().encode())

    @classmethod
    def problem(cls, error: XpertError, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with an error."""
        found = problem_of(error, status=status, request_id="fake")
        return cls(
            status=found.status, headers={"content-type": MEDIA_TYPE, **(headers or {})}, body=found.model_dump_json().encode()
        )


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something to go wrong once, with the next request whose path begins with ``path``.

    Attributes
    ----------
    path
        Where; ``/store/`` is where signed addresses lead.
    status
        Answer with this status and no more, as a proxy would.
    error
        Answer with this error, as the server would.
    headers
        Headers of that answer: ``{"Retry-After": "1"}``.
    cut_after
        Break the connection after so many bytes of the body; -1: the answer is lost, what was asked is done.
    cut_body
        Break the connection after so many bytes of the request's body: the server keeps those, and no answer comes.
    damage
        Change the body's last byte.
    ignore_range
        Send everything where a part was asked for.
    """

    path: str = "/"
    status: int | None = None
    error: XpertError | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    cut_body: int | None = None
    damage: bool = False
    ignore_range: bool = False

    def before(self, seen: Seen) -> tuple[Seen, Reply | None]:
        """Change a request, or answer it."""
        if self.error is not None:
            return seen, Reply.problem(self.error, status=self.status, headers=self.headers)
        if self.status is not None:
            return seen, Reply(status=self.status, headers={"content-type": "text/html", **self.headers}, body=b"<p>No.</p>")
        if self.cut_body is not None:
            return replace(seen, body=seen.body[: self.cut_body]), None
        if self.ignore_range:
            return replace(seen, headers={key: value for key, value in seen.headers.items() if key != "range"}), None
        return seen, None

    def after(self, reply: Reply) -> Reply:
        """Change an answer."""
        body = reply.body[:-1] + bytes([reply.body[-1] ^ 1]) if self.damage and reply.body else reply.body
        return replace(reply, body=body, cut_after=-1 if self.cut_body is not None else self.cut_after)


def read_json(seen: Seen) -> Any:
    """Read a request's body, None where it is not JSON."""
    try:
        return json.loads(seen.body)
    except ValueError:
        return None
