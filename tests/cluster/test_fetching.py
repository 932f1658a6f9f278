"""Adapters come whole, from the right place, or with a reason why not."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from huggingface_hub import constants

import xpert_starter
from xpert.core.errors import (
    AccessError,
    FileFormatError,
    InputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    XpertError,
)
from xpert_operator.fetching import CONFIG, WEIGHTS, fetch

FOLDER = xpert_starter.path_of("concise")
DIGEST = hashlib.sha256((FOLDER / WEIGHTS).read_bytes()).hexdigest()
MOST = 1 << 30
TOKEN = {"token": "let-me-in"}


class Handler(BaseHTTPRequestHandler):
    """Serves the adapter below /open and, for the token, below /closed; the other folders are out of order in their ways.

    What a hub is asked for, /OWNER/REPOSITORY/resolve/REVISION/FILE, is found in the repository 'concise' alone.
    """

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        where, _, name = self.path.lstrip("/").rpartition("/")
        if "/resolve/" in self.path:
            repository = self.path.split("/")[2]
            known = {"etag": f'"{name}"', "x-repo-commit": "c" * 40}
            if repository == "concise":
                self._answer(200, (FOLDER / name).read_bytes(), **known)
            else:
                self._answer(int(repository))
        elif where == "closed" and self.headers["authorization"] != f"Bearer {TOKEN['token']}":
            self._answer(401)
        elif where in {"open", "closed"}:
            self._answer(200, (FOLDER / name).read_bytes())
        elif where == "moved":
            self._answer(302, location=f"/open/{name}")
        else:
            self._answer(int(where))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Bucket(BaseHTTPRequestHandler):
    """An S3 that is not well, or breaks off."""

    def do_GET(self) -> None:
        is_short = "short" in self.path
        body = b"{" if is_short else b"<Error><Code>InternalError</Code><Message>Oh.</Message></Error>"
        self.send_response(200 if is_short else 503)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", "100" if is_short else str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(context: ssl.SSLContext | None, handler: type[BaseHTTPRequestHandler] = Handler) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def host(authority: trustme.CA) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(context) as port:
        yield f"https://localhost:{port}"


@pytest.fixture
def broken_bucket() -> Iterator[str]:
    with serving(None, Bucket) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the operator trust the host, as by a mounted certificate."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def bring(uri: str, tmp_path: Path, secret: dict[str, str] | None = None, *, digest: str = DIGEST, most: int = MOST) -> Path:
    folder = tmp_path / "into"
    folder.mkdir(parents=True)
    return fetch(uri, digest, secret or {}, folder, most_bytes=most)


@pytest.mark.parametrize(("place", "secret"), [("open", {}), ("closed", TOKEN)])
@pytest.mark.usefixtures("trusted")
def test_https_brings_both_files(host: str, tmp_path: Path, place: str, secret: dict[str, str]) -> None:
    folder = bring(f"{host}/{place}", tmp_path, secret)
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG}
    assert all((folder / name).read_bytes() == (FOLDER / name).read_bytes() for name in (WEIGHTS, CONFIG))


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("closed", AccessError, "secretRef"),
        ("403", AccessError, "status 403"),
        ("404", NotFoundError, "status 404, expected 200"),
        ("moved", NotFoundError, "status 302"),
        ("503", UnavailableError, "status 503"),
        ("429", UnavailableError, "status 429"),
    ],
)
@pytest.mark.usefixtures("trusted")
def test_https_says_why_not(host: str, tmp_path: Path, place: str, error: type[XpertError], said: str) -> None:
    with pytest.raises(error, match=said):
        bring(f"{host}/{place}", tmp_path)


def test_a_host_that_nobody_vouches_for_gets_no_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        bring(f"{host}/closed", tmp_path, TOKEN)


@pytest.mark.usefixtures("trusted")
def test_other_weights_and_too_large_ones_are_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=f"{DIGEST[:12]}, expected aaaaaaaaaaaa"):
        bring(f"{host}/open", tmp_path, digest="a" * 64)
    (tmp_path / "again").mkdir()
    with pytest.raises(TooLargeError, match="--most-mib"):
        bring(f"{host}/open", tmp_path / "again", most=2000)
    assert not (tmp_path / "again" / "into" / WEIGHTS).exists() or (tmp_path / "again" / "into" / WEIGHTS).stat().st_size <= 2000


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=re.escape("127.0.0.1:1")):
        bring("https://127.0.0.1:1/adapter", tmp_path)
    with pytest.raises(InputError, match="s3://, https:// or hf://"):
        fetch("ftp://somewhere", DIGEST, {}, tmp_path, most_bytes=MOST)


@pytest.mark.slow
def test_s3_brings_both_files_or_says_why_not(bucket: dict[str, str], tmp_path: Path) -> None:
    folder = bring("s3://adapters/concise", tmp_path, bucket)
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG}
    for number, (uri, secret, error, said) in enumerate(
        (
            ("s3://adapters/nowhere", bucket, NotFoundError, "NoSuchKey"),
            ("s3://nowhere/concise", bucket, NotFoundError, "NoSuchBucket"),
            ("s3://adapters/concise", {**bucket, "AWS_SECRET_ACCESS_KEY": "x" * 20}, AccessError, "SignatureDoesNotMatch"),
            ("s3://adapters/concise", {**bucket, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, UnavailableError, "does not answer"),
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(error, match=said):
            bring(uri, place, secret)


def _be_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a host here be the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(None) as port:
        _be_hub(monkeypatch, f"http://127.0.0.1:{port}")
        yield


@pytest.mark.usefixtures("hub")
def test_the_hub_brings_both_files(tmp_path: Path) -> None:
    folder = bring("hf://somebody/concise@v1", tmp_path)
    assert all((folder / name).read_bytes() == (FOLDER / name).read_bytes() for name in (WEIGHTS, CONFIG))


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("hf://somebody/403", AccessError, "status 403"),
        ("hf://somebody/404", NotFoundError, "status 404"),
        ("hf://somebody/503", UnavailableError, "status 503"),
        ("hf://somebody/429", UnavailableError, "status 429"),
        ("hf://what/is/this", NotFoundError, "cannot be fetched"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_the_hub_says_why_not(tmp_path: Path, uri: str, error: type[XpertError], said: str) -> None:
    with pytest.raises(error, match=said):
        bring(uri, tmp_path)


@pytest.mark.usefixtures("hub")
def test_what_is_too_large_is_not_even_begun(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="--most-mib"):
        bring("hf://somebody/concise", tmp_path, most=10)
    assert not [path for path in (tmp_path / "into").rglob("*") if path.is_file()]


def test_a_hub_that_is_away_may_be_there_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    _be_hub(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="the hub does not answer"):
        bring("hf://somebody/concise", tmp_path)


@pytest.mark.parametrize(
    ("uri", "secret", "said"),
    [
        ("s3://adapters/concise", {"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL in the Secret is 'minio:9000', expected"),
        ("s3://x/concise", {}, "Cannot fetch 's3://x/concise'"),
        ("https://somewhere:port/concise", {}, "Cannot fetch 'https://somewhere:port/"),
    ],
)
def test_an_address_that_is_none_is_said(tmp_path: Path, uri: str, secret: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        bring(uri, tmp_path, secret)


def test_a_bucket_that_is_not_well_is_no_matter_of_credentials(tmp_path: Path, broken_bucket: str) -> None:
    with pytest.raises(UnavailableError, match="InternalError"):
        bring("s3://internal/503", tmp_path, {"AWS_ENDPOINT_URL": broken_bucket})
    with pytest.raises(UnavailableError, match="broke off in the midst"):
        bring("s3://adapters/short", tmp_path / "other", {"AWS_ENDPOINT_URL": broken_bucket})
