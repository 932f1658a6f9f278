"""The embedded server as a process of its own, and what is asked of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn


@contextmanager
def serving(folder: Path, *options: str, program: tuple[str, ...] = ("-m", "xpert_services")) -> Iterator[tuple[str, list[str]]]:
    """Run a server; gives its address and what it printed before. It ends well when asked to."""
    command = [sys.executable, "-W", "ignore", *program, "--store", str(folder / "store"), "--port", "0", *options]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Serving at "):
                break
        assert lines and lines[-1].startswith("Serving at "), (folder / "log").read_text()
        yield lines[-1].removeprefix("Serving at "), lines[:-1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.stdout
        process.stdout.read()
        process.stdout.close()
        process.wait()
    assert process.returncode == 0, (folder / "log").read_text()


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """Let an app of this process listen on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def client_of(url: str, token: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=300)


def watch(client: httpx2.Client, job: str) -> Iterator[dict[str, Any]]:
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def wait(client: httpx2.Client, job: str) -> dict[str, Any]:
    *_, last = watch(client, job)
    assert last["state"] == "succeeded", last
    return last
