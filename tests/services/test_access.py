"""Tokens, signed addresses, the log of writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from api_cases import ADMIN, ShiftedFolder

from xpert.core.errors import AccessError, NotFoundError
from xpert.wire import AuditEntry, TokenDraft
from xpert_services.access import Audit, Signer, Tokens, includes
from xpert_services.access.__main__ import main
from xpert_services.store import Draft, Store, open_store


def test_a_token_in_a_folder_and_in_a_bucket(store: Store) -> None:
    tokens = Tokens(store)
    assert not tokens.any()
    made = tokens.make(TokenDraft(name="phones", scope="read", days=3))
    assert tokens.any()
    assert made.secret
    assert tokens.check(made.secret).scope == "read"
    assert tokens.get(made.id).secret is None
    assert made.expires == made.created + timedelta(days=3)
    assert [token.name for token in tokens.page(after=None, limit=9).items] == ["phones"]
    tokens.remove(made.id)
    with pytest.raises(AccessError):
        tokens.check(made.secret)
    with pytest.raises(NotFoundError):
        tokens.remove(made.id)
    assert tokens.any()


def test_the_store_holds_no_secret(tmp_path: Path) -> None:
    made = Tokens(open_store(tmp_path / "s")).make(TokenDraft(name="a", scope="admin"))
    assert made.secret
    secret = made.secret[23:]
    for path in (tmp_path / "s").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()


def test_rotation_several_are_live_at_a_time(tmp_path: Path) -> None:
    tokens = Tokens(open_store(tmp_path / "s"))
    old, new = (tokens.make(TokenDraft(name="site", scope="publish")) for _ in range(2))
    assert tokens.check(old.secret or "").id != tokens.check(new.secret or "").id
    tokens.remove(old.id)
    assert tokens.check(new.secret or "").name == "site"


def test_a_removed_token_is_refused_elsewhere_once_it_is_read_again(tmp_path: Path) -> None:
    here, there = (Tokens(open_store(tmp_path / "s"), fresh_s=0) for _ in range(2))
    made = here.make(TokenDraft(name="a"))
    assert there.check(made.secret or "")
    here.remove(made.id)
    with pytest.raises(AccessError):
        there.check(made.secret or "")


def test_an_expired_token_and_other_texts_are_refused(tmp_path: Path) -> None:
    past = Store(ShiftedFolder(tmp_path / "s", ahead=-2 * 86400))
    tokens = Tokens(past)
    expired = tokens.make(TokenDraft(name="a", days=1)).secret or ""
    good = tokens.make(TokenDraft(name="a", days=3)).secret or ""
    assert tokens.check(good)
    other = good[:-1] + ("A" if good[-1] != "A" else "B")
    for bad in ("", "xpert", expired, other, good + "x", f"xpert_{'0' * 16}_{'A' * 43}", "ü" * 40):
        with pytest.raises(AccessError, match="valid token"):
            tokens.check(bad)


def test_a_fixed_administrators_token(tmp_path: Path) -> None:
    tokens = Tokens(open_store(tmp_path / "s"), fixed=ADMIN)
    assert tokens.any()
    assert tokens.check(ADMIN).scope == "admin"
    with pytest.raises(AccessError):
        tokens.check(ADMIN + "x")
    with pytest.raises(AccessError, match="32"):
        Tokens(open_store(tmp_path / "s"), fixed="short")


def test_scopes_include_those_before() -> None:
    assert [includes("publish", needed) for needed in ("read", "publish", "admin")] == [True, True, False]


def test_a_token_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", str(tmp_path / "s"), "--name", "ops", "--days", "2"]) == 0
    assert Tokens(open_store(tmp_path / "s")).check(capsys.readouterr().out.strip()).scope == "admin"
    assert main(["--store", str(tmp_path / "s"), "--name", "No Name"]) == 3
    assert "name" in capsys.readouterr().err


def test_tokens_are_listed_and_removed_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--store", str(tmp_path / "s")]
    tokens = Tokens(open_store(tmp_path / "s"))
    made = {tokens.make(TokenDraft(name=name, scope="read", days=3)).id: name for name in ("a", "b")}
    assert main([*at, "--list"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {token["id"]: token["name"] for token in listed} == made
    assert all(token.keys() == {"id", "name", "scope", "created", "expires"} for token in listed)
    gone = min(made)
    assert main([*at, "--remove", gone]) == 0
    assert main([*at, "--remove", gone]) == 6
    assert main([*at, "--list"]) == 0
    assert gone not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*at, "--list", "--name", "c"])


def test_the_signing_key_is_renewed_by_command(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    query = Signer(store).sign("download", {"digest": "a"})
    Signer(store).check("download", query)
    assert main(["--store", str(tmp_path / "s"), "--renew-signing-key"]) == 0
    with pytest.raises(AccessError):
        Signer(store).check("download", query)
    Signer(store).check("download", Signer(store).sign("download", {"digest": "a"}))


def test_signed_addresses(store: Store) -> None:
    signer, other = Signer(store, lifetime_s=60), Signer(store)
    query = signer.sign("download", {"digest": "a", "size": "1"})
    other.check("download", query)
    for change in (
        {"digest": "b"},
        {"size": "12"},
        {"expires": "99999999999"},
        {"signature": "0" * 64},
        {"signature": "ü"},
        {"x": ""},
    ):
        with pytest.raises(AccessError, match="changed or has run out"):
            signer.check("download", {**query, **change})
    with pytest.raises(AccessError):
        signer.check("upload", query)
    old = Signer(store, lifetime_s=-1)
    with pytest.raises(AccessError):
        signer.check("download", old.sign("download", {"digest": "a"}))


def test_the_log_of_writes_is_newest_first(tmp_path: Path) -> None:
    audit = Audit(open_store(tmp_path / "s"))
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(3):
        at = begun + timedelta(seconds=n)
        audit.write(AuditEntry(at=at, token="t", method="POST", path=f"/{n}", status=201, request_id=f"r{n}"))  # noqa: S106
    first = audit.page(after=None, limit=2)
    assert [entry.path for entry in first.items] == ["/2", "/1"]
    second = audit.page(after=first.next, limit=2)
    assert ([entry.path for entry in second.items], second.next) == (["/0"], None)


def test_a_damaged_token_is_no_token(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    tokens = Tokens(store)
    made = tokens.make(TokenDraft(name="a"))
    value = dict(store.records.get("tokens", made.id).value)
    store.records.update("tokens", made.id, lambda _: Draft(json.loads(json.dumps(value)) | {"sha256": ""}))
    with pytest.raises(AccessError):
        tokens.check(made.secret or "")
