"""Plain uvicorn that serves bytes which were recorded from a site: what the site's figures are a ratio to.

``python tests/load/plain.py RECORDED PORT``
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import uvicorn

if TYPE_CHECKING:
    from vegeta import Target

CHOOSING = ("if-none-match", "range")
"""Headers by which an answer differs from another one at the same address."""


NOTHING: tuple[Any, Any] = ({"type": "http.response.start", "status": 404, "headers": []}, {"type": "http.response.body"})


def record(targets: Sequence[Target], path: Path) -> None:
    """Ask a site once for each target and keep its answers."""
    kept = []
    with httpx2.Client(timeout=60) as client:
        for target in targets:
            answer = client.get(target.url, headers=dict(target.headers))
            if answer.status_code not in (200, 206, 304):
                raise RuntimeError(f"{target.url} was answered with {answer.status_code}: {answer.text[:200]}")
            url = httpx2.URL(target.url)
            kept.append(
                {
                    "key": _key(url.raw_path, {name.lower(): value for name, value in target.headers.items()}),
                    "status": answer.status_code,
                    "headers": [each for each in answer.headers.multi_items() if each[0].lower() not in ("date", "server")],
                    "body": base64.b64encode(answer.content).decode(),
                }
            )
    path.write_text(json.dumps(kept))


def app(path: Path) -> Callable[..., Awaitable[None]]:
    """Return an ASGI app that answers from memory and does nothing else."""
    answers = {
        each["key"]: (
            {
                "type": "http.response.start",
                "status": each["status"],
                "headers": [(name.encode(), value.encode()) for name, value in each["headers"]],
            },
            {"type": "http.response.body", "body": base64.b64decode(each["body"])},
        )
        for each in json.loads(path.read_text())
    }

    async def answer(scope: Mapping[str, Any], _: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        start, body = answers.get(_key(target, {name.decode(): value.decode() for name, value in scope["headers"]}), NOTHING)
        await send(start)
        await send(body)

    return answer


def _key(target: bytes, headers: Mapping[str, str]) -> str:
    return " ".join([target.decode(), *(headers.get(name, "") for name in CHOOSING)])


if __name__ == "__main__":
    uvicorn.run(
        app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning", lifespan="off"
    )
