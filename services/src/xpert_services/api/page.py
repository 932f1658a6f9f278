"""The explorer page beside the API, where it was built into the package."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

BUILT = Path(__file__).parents[1] / "web"
NOT_BUILT = (
    "This is an XPerT server; its API is described at /openapi.json. The explorer page was not built: ./taskw web makes it.\n"
)
# Said here, since what a system knows about suffixes differs; the browser compiles .wasm of the right type alone.
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
}
# The names of assets hold a digest of their content: another content has another name.
FOR_GOOD, ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
POLICY = re.compile(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"')


def page_routes(folder: Path = BUILT) -> list[Route]:
    """Return the routes of the page; they need no token, the page asks for one.

    Parameters
    ----------
    folder
        Where it was built to, or will be.
    """

    def index(_: Request) -> Response:
        if not (folder / "index.html").is_file():
            return PlainTextResponse(NOT_BUILT, headers={"cache-control": ASK_AGAIN})
        return _file(folder, "index.html", ASK_AGAIN)

    def icon(_: Request) -> Response:
        return _file(folder, "icon.svg", ASK_AGAIN)

    def asset(request: Request) -> Response:
        return _file(folder, f"assets/{request.path_params['name']}", FOR_GOOD)

    named = (("/", index), ("/icon.svg", icon), ("/assets/{name}", asset))
    return [Route(path, endpoint, include_in_schema=False) for path, endpoint in named]


def _file(folder: Path, name: str, cache: str) -> Response:
    """Answer with a file that stands directly where its name says.

    Raises
    ------
    HTTPException
        There is none.
    """
    path, index = folder / name, folder / "index.html"
    if path.parent.resolve() != path.resolve().parent or not (path.is_file() and index.is_file()):
        raise HTTPException(404)
    # The policy stands in the page; a header holds workers to it as well, which do not inherit the page's, and frames off.
    policy = POLICY.search(index.read_text(encoding="utf-8"))
    headers = {"cache-control": cache, "referrer-policy": "no-referrer"}
    if policy:
        headers["content-security-policy"] = f"{policy[1]}; frame-ancestors 'none'"
    return FileResponse(path, media_type=TYPES.get(path.suffix, "application/octet-stream"), headers=headers)
