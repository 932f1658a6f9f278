"""What an operation asks of whoever carries it out; nothing here opens a socket.

An operation is a generator: it yields effects (an exchange over HTTP, a pause, work on files) and is sent what came of
them. `xpert.client.blocking` and `xpert.client.awaiting` carry the same operations out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from httpx2 import ServerSentEvent

from xpert.core.errors import XpertError

CHUNK = 1 << 18
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
Progress = Callable[[int, int], object]
"""``progress(done, total)``, in bytes or in steps of a job."""


class AttemptError(Exception):
    """One attempt that failed.

    Attributes
    ----------
    error
        What the caller gets where no other attempt follows.
    wait
        False: the same call would fail again; True: worth another attempt; a number: and after that many seconds.
    """

    def __init__(self, error: XpertError, *, wait: bool | float = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request.

    Attributes
    ----------
    method, target, params, headers
        As HTTP has them; ``target`` is a path of the server, or a whole address.
    body
        Bytes to send.
    file
        A file to send instead, in chunks, reporting to ``progress``.
    start
        Where in the file to begin.
    """

    method: str
    target: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    file: Path | None = None
    start: int = 0
    progress: Progress | None = None

    def chunks(self) -> Iterator[bytes]:
        """Read the file to send."""
        if self.file is None:
            return
        total, done = self.file.stat().st_size, self.start
        with self.file.open("rb") as stream:
            stream.seek(done)
            while chunk := stream.read(CHUNK):
                yield chunk
                done += len(chunk)
                if self.progress:
                    self.progress(done, total)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, headers (names in small letters) and body of an answer; ``foreign``: a store gave it, at a signed address."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    foreign: bool = False
    body: bytes = b""

    @property
    def failed(self) -> bool:
        """Whether it is neither what was asked for nor that nothing changed."""
        return self.status >= 300 and self.status != 304


class Exchange(ABC, Generic[R_co]):
    """A request and what becomes of its answer; both are made anew for every attempt.

    Attributes
    ----------
    attempts
        At most so many, None: as many as the client is set to.
    events
        Read the body as server-sent events instead of bytes.
    """

    attempts: int | None = None
    events = False

    def ahead(self) -> Iterable[Exchange[Any]]:
        """Return what the next attempt begins with."""
        return ()

    @abstractmethod
    def request(self) -> Request:
        """Return the request of the next attempt."""

    def accept(self, head: Answer) -> None:
        """Take status and headers of an answer that is no error, before its body."""

    def refused(self, answer: Answer) -> bool:
        """Take an error's answer; True says that it was expected and nothing failed."""
        return False

    def feed(self, chunk: bytes) -> None:
        """Take some bytes of the body."""

    def event(self, event: ServerSentEvent) -> bool:
        """Take an event; True ends the exchange."""
        return True

    def close(self) -> None:
        """Release what the attempt holds, however it ended."""

    @abstractmethod
    def result(self) -> R_co:
        """Return what came of it."""


class Call(Exchange[Answer]):
    """A request whose answer is read whole."""

    def __init__(self, request: Request, *, attempts: int | None = None) -> None:
        self._request = request
        self.attempts = attempts
        self._head: Answer | None = None
        self._chunks: list[bytes] = []

    def request(self) -> Request:
        """Return the same request every time."""
        return self._request

    def accept(self, head: Answer) -> None:
        """Begin a new body."""
        self._head, self._chunks = head, []

    def feed(self, chunk: bytes) -> None:
        """Keep the bytes."""
        self._chunks.append(chunk)

    def result(self) -> Answer:
        """Return the whole answer."""
        assert self._head is not None  # noqa: S101
        return replace(self._head, body=b"".join(self._chunks))


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Run what reads, writes or hashes files: beside the event loop where there is one."""

    run: Callable[[], Any]


Effect: TypeAlias = Exchange[Any] | Pause | Work
Operation: TypeAlias = Generator[Effect, Any, T]


def call(request: Request, *, attempts: int | None = None) -> Operation[Answer]:
    """Make one exchange whose answer is read whole."""
    answer: Answer = yield Call(request, attempts=attempts)
    return answer


def work(run: Callable[[], T]) -> Operation[T]:
    """Do file work and return what it returned."""
    done: T = yield Work(run)
    return done
