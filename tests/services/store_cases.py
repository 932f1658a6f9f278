"""What the store's tests share: a wire that can be cut, writers that stop between their steps, work for other processes."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from minio.credentials.providers import StaticProvider

from xpert.core.errors import XpertError
from xpert_services.store import Draft, ObjectStore, Record, Retention, Store, open_store
from xpert_services.store.keys import BLOBS
from xpert_services.store.objects import Content, ObjectInfo, Source
from xpert_services.store.opening import open_objects

MIB = 2**20
BUCKET = "xpert-tests"


@dataclass(frozen=True)
class Place:
    """Where a test's store is, and what opens it."""

    url: str
    user: str = "unused"
    password: str = "unused"  # noqa: S105 - a folder asks for none

    @property
    def credentials(self) -> StaticProvider:
        return StaticProvider(self.user, self.password)

    def objects(self) -> ObjectStore:
        return open_objects(self.url, credentials=self.credentials)

    def store(self) -> Store:
        return open_store(self.url, credentials=self.credentials)

    def at(self, endpoint: str) -> Place:
        """The same place behind another address."""
        return replace(self, url=f"{self.url.partition('?')[0]}?{urlencode({'endpoint': endpoint})}")


def make_file(path: Path, *, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def keys_of(objects: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in objects.scan(prefix)]


class Wire:
    """A relay in front of a server on the loopback: counts what passes, and can be cut or lose answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.on_cut: Callable[[], object] = lambda: None
        self.mend()
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        self.up = self.down = self.n_lost = 0
        self.cut_up = self.cut_down = 2**60
        self.is_cut = False

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _hang_up(end)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _start(self, function: Callable[..., None], *parts: object) -> None:
        thread = threading.Thread(target=function, args=parts, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                self._start(self._relay, near, far, True)
                self._start(self._relay, far, near, False)

    def _relay(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and self._passes(len(data), is_up):
                sink.sendall(data)
        _hang_up(source)
        _hang_up(sink)

    def _passes(self, size: int, is_up: bool) -> bool:
        with self._lock:
            self.up += size * is_up
            self.down += size * (not is_up)
            if self.n_lost and not is_up:
                self.n_lost -= 1
                return False
            if not self.is_cut and (self.up > self.cut_up or self.down > self.cut_down):
                self.is_cut = True
                self.on_cut()
            return not self.is_cut


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class Gated:
    """An object store that waits for ``gate`` before each of its operations."""

    def __init__(self, objects: ObjectStore, gate: Callable[[], None]) -> None:
        self._objects = objects
        self._gate = gate

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._gate()
        return self._objects.put(key, data, if_absent=if_absent, if_match=if_match)

    def put_file(self, key: str, source: Source) -> None:
        self._gate()
        self._objects.put_file(key, source)

    def get(self, key: str) -> Content:
        self._gate()
        return self._objects.get(key)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self._gate()
        return self._objects.read(key, start=start, end=end)

    def stat(self, key: str) -> ObjectInfo:
        self._gate()
        return self._objects.stat(key)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        self._gate()
        return self._objects.scan(prefix)

    def delete(self, key: str) -> None:
        self._gate()
        self._objects.delete(key)

    def unfinished(self, prefix: str) -> Iterator[str]:
        self._gate()
        return self._objects.unfinished(prefix)

    def discard(self, key: str) -> None:
        self._gate()
        self._objects.discard(key)

    def now(self) -> float:
        self._gate()
        return self._objects.now()


class Party:
    """A job on a store that does one object operation for each step it is told to take."""

    def __init__(self, objects: ObjectStore, job: Callable[[Store], object]) -> None:
        self._go, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        self._store, self._job = Store(Gated(objects, self._wait)), job
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = False
        self.error: BaseException | None = None
        self._thread.start()
        self._arrived.acquire()

    def step(self, n_steps: int = 1) -> None:
        for _ in range(n_steps):
            if not self.done:
                self._go.release()
                self._arrived.acquire()

    def finish(self) -> None:
        while not self.done:
            self.step()
        self._thread.join()
        if self.error and not isinstance(self.error, XpertError):
            raise self.error

    def _wait(self) -> None:
        self._arrived.release()
        self._go.acquire()

    def _run(self) -> None:
        try:
            self._job(self._store)
        except BaseException as error:
            self.error = error
        self.done = True
        self._arrived.release()


def one_more(record: Record | None) -> Draft:
    return Draft({"n": record.value["n"] + 1 if record else 1})


def increment(url: str, key: str, secret: str, n_times: int) -> None:
    store = open_store(url, credentials=StaticProvider(key, secret))
    for _ in range(n_times):
        store.records.update("counters", "visits", one_more)


def put_once(url: str, key: str, secret: str, path: Path) -> None:
    open_store(url, credentials=StaticProvider(key, secret)).artifacts.put(path, kind="answers")


def put_limited(url: str, path: Path, limit: int) -> None:
    """Store a file in a process that the kernel kills when a file of it grows beyond ``limit`` bytes."""
    _die_beyond(limit)
    open_store(url).artifacts.put(path, kind="answers")


def download_limited(url: str, digest: str, path: Path, limit: int) -> None:
    _die_beyond(limit)
    open_store(url).artifacts.download(digest, path)


def download_once(url: str, key: str, secret: str, digest: str, path: Path) -> None:
    open_store(url, credentials=StaticProvider(key, secret)).artifacts.download(digest, path)


def die_everywhere(root: Path, files: list[Path]) -> None:
    """Run `busy` again and again, killed before its first step in the file system, before its second and so on."""
    n_steps = 0
    while _is_killed(n_steps, root, files):
        store = open_store(root)
        for artifact in store.artifacts.list():
            store.artifacts.check(artifact.digest)
        for record in store.records.list("c"):
            for digest in record.artifacts.values():
                store.artifacts.check(digest)
        busy(root, files)
        store.collect_garbage(retention=Retention(timedelta(0)))
        assert keys_of(store.objects, BLOBS) == list(store.objects.unfinished(BLOBS)) == []
        shutil.rmtree(root)
        n_steps += 1
    assert n_steps > 100


def busy(root: Path, files: list[Path]) -> None:
    store = open_store(root)
    for file in files:
        draft = Draft({}, {"entry": store.artifacts.put(file, kind="entry").digest})
        store.records.update("c", "n", lambda _, draft=draft: draft)  # type: ignore[misc]
    store.collect_garbage(retention=Retention(timedelta(0)))
    store.records.remove(store.records.get("c", "n"))


def _is_killed(n_steps: int, root: Path, files: list[Path]) -> bool:
    child = os.fork()
    if not child:
        left = iter(range(n_steps))

        def step(event: str, args: tuple[object, ...]) -> None:
            if event in ("sync", "open", "os.mkdir", "os.rename", "os.remove") and str(args[0]).startswith(str(root)):
                next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL)

        fsync = os.fsync
        os.fsync = lambda handle: (step("sync", (root,)), fsync(handle))[1]
        sys.addaudithook(step)
        busy(root, files)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def _die_beyond(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
