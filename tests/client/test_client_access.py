"""Tokens: where they come from, and to whom they are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from httpx2 import URL

from xpert.client import Client, PlainHttpWarning
from xpert.client.exchange import Request
from xpert.client.fake import FakeServer
from xpert.client.link import Link, find_token, save_token
from xpert.core.errors import AccessError, InputError, NotFoundError

Connect = Callable[..., Any]
SECRET = "xp_0123456789abcdef"  # noqa: S105


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer(tokens={SECRET: "publish", "reader": "read"})


def test_only_the_server_itself_sees_the_token(
    fake: FakeServer, connect: Connect, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect(token=SECRET)
    client.add_base("starter", "starter:base")
    client.push(adapter, "starter", "mine")
    client.pull("starter", "mine")
    to_the_store = [seen for seen in fake.seen if seen.path.startswith("/store/")]
    assert len(to_the_store) == 4
    assert not any("authorization" in seen.headers for seen in to_the_store)
    assert all(seen.headers["authorization"] == f"Bearer {SECRET}" for seen in fake.seen if seen not in to_the_store)
    shown = caplog.text + repr(client) + repr(getattr(client, "_setting", ""))
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://one.example/v1/bases", True),
        ("https://one.example:443/x", True),
        ("https://one.example/file?X-Amz-Signature=1", False),
        ("https://one.example/file?signature=1", False),
        ("https://one.example:9000/v1/bases", False),
        ("http://one.example/v1/bases", False),
        ("https://store.example/v1/bases", False),
        ("https://one.example.evil.example/v1/bases", False),
    ],
)
def test_to_which_addresses_it_goes(address: str, shown: bool) -> None:
    link = Link("https://one.example", SECRET)
    assert ("Authorization" in link.headers(Request(method="GET", target=address), URL(address))) is shown


def test_it_is_not_in_what_errors_say(fake: FakeServer, connect: Connect) -> None:
    with pytest.raises(AccessError, match="valid token") as caught:
        list(connect(token=f"{SECRET}x").bases())
    assert SECRET not in repr(caught.value) + str(caught.getrepr(showlocals=False))
    with pytest.raises(AccessError, match="scope 'publish'"):
        connect(token="reader").add_base("starter", "starter:base")  # noqa: S106
    with pytest.raises(AccessError, match="XPERT_TOKEN"):
        list(connect().bases())
    with pytest.raises(InputError, match="token is empty or holds") as refused:
        connect(token=f"{SECRET}\r\nX: y")
    assert SECRET not in str(refused.value)


def test_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = "https://one.example"
    assert find_token(server) is None
    path = save_token("kept", server)
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_token(server) == "kept"
    assert find_token(f"{server}:443/") == "kept"
    assert find_token("https://two.example") is None, "a kept token is for the server it was kept for"
    assert find_token("http://one.example") is None
    (path.parent / "server").unlink()
    assert find_token("https://two.example") == "kept"
    named = tmp_path / "named"
    named.write_text("named\n")
    named.chmod(0o600)
    monkeypatch.setenv("XPERT_TOKEN_FILE", str(named))
    assert find_token(server) == "named"
    monkeypatch.setenv("XPERT_TOKEN", "given")
    assert find_token(server) == "given"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(mode)
    monkeypatch.setenv("XPERT_TOKEN_FILE", str(path))
    with pytest.raises(AccessError, match="chmod 600") as caught:
        Client("https://one.example")
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("XPERT_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(NotFoundError):
        Client("https://one.example")


@pytest.mark.parametrize(
    "wrong", ["", "one.example", "ftp://one.example", "https://", "https://u:pw@one.example", "https://a?b=c"]
)
def test_addresses_that_are_none(wrong: str) -> None:
    with pytest.raises(InputError, match="no server address") as caught:
        Client(wrong)
    assert "pw" not in str(caught.value)


def test_a_path_before_the_api_stays(tmp_path: Path) -> None:
    fake = FakeServer()
    with Client("https://one.example/xpert/", cache=tmp_path, transport=fake.transport()) as client, pytest.raises(NotFoundError):
        client.version()
    assert fake.seen[0].path == "/xpert/version"


def test_a_token_is_replaced_while_the_client_is_open(fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    client = connect(token=file.read_text)
    list(client.bases())
    fake.tokens = {"another": "publish"}
    with pytest.raises(AccessError):
        list(client.bases())
    file.write_text("another")
    list(client.bases())
    file.write_text("two words")
    with pytest.raises(InputError, match="token is empty or holds"):
        list(client.bases())


def test_a_token_over_plain_http_is_warned_of() -> None:
    with pytest.warns(PlainHttpWarning, match="unencrypted"):
        Client("http://one.example", token=SECRET)
    Client("http://127.0.0.1:80", token=SECRET)


def test_an_administrator_hands_out_tokens_and_sees_who_wrote(fake: FakeServer, connect: Connect) -> None:
    fake.tokens["boss"] = "admin"
    client = connect(token="boss")  # noqa: S106
    made = client.add_token("phones", days=30)
    assert (made.scope, made.secret is None, made.expires is None) == ("read", False, False)
    assert [(token.id, token.secret) for token in client.tokens()] == [(made.id, None)]
    phone = connect(token=made.secret)
    assert list(phone.bases()) == []
    with pytest.raises(AccessError, match="scope 'admin'"):
        list(phone.tokens())
    publisher = client.add_token("ops", scope="publish")
    connect(token=publisher.secret).add_base("starter", "starter:base")
    client.revoke_token(made.id)
    with pytest.raises(AccessError, match="valid token"):
        list(phone.bases())
    with pytest.raises(NotFoundError, match="no token"):
        client.revoke_token(made.id)
    found = [(entry.method, entry.path.rpartition("/")[0], entry.token.partition(" ")[0]) for entry in client.audit()]
    assert found == [
        ("DELETE", "/v1/tokens", "admin"),
        ("POST", "/v1", "ops"),
        ("POST", "/v1", "admin"),
        ("POST", "/v1", "admin"),
    ]
    with pytest.raises(InputError, match="days"):
        client.add_token("x", days=0)
