"""Uploads that are cut and go on, and those that go to the bucket itself; on real sockets and a real MinIO."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from api_cases import ADMIN, Site, send, site_at
from server_cases import listening
from store_cases import Place, Wire, keys_of

import xpert_starter
from xpert.client import Client, Retries
from xpert.core.errors import FileFormatError, InputError, UnavailableError
from xpert.core.files import sha256_hex, write_safetensors
from xpert.core.space import StyleSpace
from xpert.wire import UploadDraft
from xpert_services.services import Services, Settings
from xpert_services.store import FolderObjects, Retention, Store
from xpert_services.store.keys import PARTS, STAGING, staging_key
from xpert_services.store.parts import LEAST_BYTES
from xpert_services.store.s3 import S3Objects

ONCE = Retries(attempts=1, first=0, longest=0, jitter=0)
PATIENT = Retries(attempts=4, first=0, longest=0, jitter=0)
OWNER = "environment"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of 3 MB in the right format."""
    path = tmp_path / "large.safetensors"
    write_safetensors(path, {"x": np.random.default_rng(1).normal(size=(750, 1000)).astype(np.float32)})
    return path


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("XPERT_CACHE", str(tmp_path / "cache"))
    made: list[Client] = []

    def make(url: str, retries: Retries = PATIENT) -> Client:
        made.append(Client(url, token=ADMIN, retries=retries))
        return made[-1]

    yield make
    for each in made:
        each.close()


def wait_for_parts(site: Site, digest: str) -> int:
    """The server notices a cut by itself, soon after."""
    for _ in range(10_000):
        if found := site.store.parts.offset(digest, OWNER):
            return found
    raise AssertionError("nothing was kept")


def asked(path: Path, **more: str) -> dict[str, Any]:
    data = path.read_bytes()
    return {"digest": sha256_hex(data), "size": len(data), **more}


def test_an_upload_goes_on_where_it_was_cut(store: Store, large: Path, client: Any) -> None:
    site = Site(store)
    digest, size = sha256_hex(large.read_bytes()), large.stat().st_size
    with listening(site.app) as port:
        wire = Wire(port)
        try:
            sent = 0
            for cut in (1_000_000, 900_000):
                wire.mend()
                wire.cut_up = cut
                with pytest.raises(UnavailableError):
                    client(wire.url, ONCE).add_space(large)
                before, sent = sent, wait_for_parts(site, digest)
                while sent == before:
                    sent = wait_for_parts(site, digest)
                assert before < sent < size
            wire.mend()
            with pytest.raises(FileFormatError, match="xpert-space"):  # no style space: it came whole, which is what counts here
                client(wire.url).add_space(large)
            assert wire.up < size - sent + 20_000, "what was there is not sent again"
        finally:
            wire.close()
    assert b"".join(store.objects.read(read_blob(store, digest))) == large.read_bytes()
    assert keys_of(store.objects, PARTS) == []


def read_blob(store: Store, digest: str) -> str:
    return next(key for key in keys_of(store.objects, "v1/blobs/") if digest in key)


def test_offsets(tmp_path: Path, large: Path) -> None:
    site = site_at(tmp_path / "store")
    api, data, body = site.client(), large.read_bytes(), asked(large)
    digest = body["digest"]
    parts = site.store.parts
    url = api.post("/v1/uploads", json=body).json()["url"]
    kept = tmp_path / "part"

    def keep(start: int, end: int) -> None:
        kept.write_bytes(data[start:end])
        parts.keep(digest, OWNER, kept, start=start)

    keep(0, LEAST_BYTES - 1)
    assert parts.offset(digest, OWNER) == 0, "too little to be worth it"
    for start, end in ((0, 200_000), (150_000, 400_000), (500_000, 900_000), (0, 100_000)):
        keep(start, end)
    assert parts.offset(digest, "another") == 0, "nobody goes on with what someone else sends"
    assert api.post("/v1/uploads", json=body).json()["offset"] == 400_000
    head = site.client(None).head(url)
    assert (head.status_code, head.headers["upload-offset"], head.headers["upload-complete"]) == (204, "400000", "?0")
    patch = site.client(None).patch
    ahead = patch(url, content=data[450_000:], headers={"upload-offset": "450000"})
    assert (ahead.status_code, ahead.json()["code"], ahead.headers["upload-offset"]) == (409, "conflict", "400000")
    assert patch(url, content=b"", headers={"upload-offset": "-1"}).status_code == 422
    assert patch(url.replace("size=", "size=1"), content=b"", headers={"upload-offset": "0"}).status_code == 403
    done = patch(url, content=data[300_000:], headers={"upload-offset": "300000"})
    assert done.status_code == 204, done.text
    assert b"".join(site.store.objects.read(read_blob(site.store, digest))) == data
    assert keys_of(site.store.objects, PARTS) == []
    head = site.client(None).head(url)
    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == (str(len(data)), "?1")
    assert patch(url, content=b"", headers={"upload-offset": str(len(data))}).status_code == 204, "the answer was lost"


def test_parts_that_are_not_of_the_file_are_forgotten(tmp_path: Path, large: Path) -> None:
    site = site_at(tmp_path / "store")
    data, body = large.read_bytes(), asked(large)
    (tmp_path / "part").write_bytes(b"?" * 100_000)
    site.store.parts.keep(body["digest"], OWNER, tmp_path / "part", start=0)
    url = site.client().post("/v1/uploads", json=body).json()["url"]
    answer = site.client(None).patch(url, content=data[100_000:], headers={"upload-offset": "100000"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_file")
    assert site.client().post("/v1/uploads", json=body).json()["offset"] == 0
    assert send(site.client(), large) == body["digest"]


def test_what_nobody_goes_on_with_is_removed(store: Store, large: Path) -> None:
    digest = sha256_hex(large.read_bytes())
    store.parts.keep(digest, OWNER, large, start=0)
    store.objects.put(staging_key(digest, OWNER), b"x")
    assert store.collect_garbage().n_orphans == 0
    assert store.parts.offset(digest, OWNER) == large.stat().st_size
    assert store.collect_garbage(retention=Retention(timedelta(0))).n_orphans == 2
    assert keys_of(store.objects, PARTS) == keys_of(store.objects, STAGING) == []


@pytest.fixture
def direct(s3_place: Place, wire: Wire) -> Site:
    """A site whose clients reach the bucket by another address than the server does."""
    settings = Settings(admin_token=ADMIN, direct=wire.url)
    return Site(s3_place.store(), settings=settings).with_base()


def test_files_go_to_the_bucket_and_come_from_it(direct: Site, wire: Wire, client: Any, large: Path, tmp_path: Path) -> None:
    with listening(direct.app) as port:
        one = client(f"http://127.0.0.1:{port}")
        adapter = xpert_starter.path_of("concise")
        pllm = one.push(adapter, "starter", "concise")
        assert wire.up > sum((adapter / name).stat().st_size for name in pllm.files)
        before = wire.down
        out = one.pull("starter", "concise", tmp_path / "out")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            name: (adapter / name).read_bytes() for name in pllm.files
        }
        assert wire.down > before
        path = tmp_path / "own.space.safetensors"
        StyleSpace.default().save(path)
        space, before = one.add_space(path), wire.down
        assert StyleSpace.load(one.space(space.digest)).digest == space.digest
        assert wire.down == before, "style spaces come from the server's own origin, for the explorer"
    assert keys_of(direct.store.objects, STAGING) == []


def test_a_range_of_a_signed_address(direct: Site, wire: Wire) -> None:
    digest = direct.store.artifacts.put(xpert_starter.path_of("concise") / "adapter_model.safetensors", kind="adapter").digest
    data = (xpert_starter.path_of("concise") / "adapter_model.safetensors").read_bytes()
    where = direct.client().get(f"/v1/artifacts/{digest}").headers["location"]
    assert where.startswith(wire.url)
    assert ADMIN not in where
    part = httpx2.get(where, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])
    assert httpx2.get(where.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")).status_code == 403
    head = direct.client().head(f"/v1/artifacts/{digest}").headers["location"]
    assert httpx2.head(head).headers["content-length"] == str(len(data))
    direct.services.quarantine.add(digest, "no good")
    assert direct.client().get(f"/v1/artifacts/{digest}").status_code == 422


def test_the_bucket_itself_refuses_other_bytes(direct: Site, large: Path) -> None:
    body, data = asked(large), large.read_bytes()
    where = direct.client().post("/v1/uploads", json=body).json()
    assert where["confirm"] and where["offset"] is None
    headers = where["headers"]
    other = hashlib.sha256(b"?" + data[1:]).digest()
    for content, changed in (
        (b"?" + data[1:], {}),  # other bytes
        (data[:-1], {}),  # another size
        (b"?" + data[1:], {"x-amz-checksum-sha256": b64encode(other).decode()}),  # another digest
    ):
        refused = httpx2.put(where["url"], content=content, headers={**headers, **changed})
        assert refused.status_code in (400, 403), refused.text
    unbound = {name: value for name, value in headers.items() if name == "content-type"}
    assert httpx2.put(where["url"], content=data, headers=unbound).status_code in (400, 403)
    assert keys_of(direct.store.objects, STAGING) == []
    assert httpx2.put(where["url"], content=data, headers=headers).status_code == 200
    assert httpx2.put(where["url"], content=data, headers=headers).status_code == 412, "once"
    assert direct.client().get(f"/v1/artifacts/{body['digest']}").status_code == 404, "not before it was looked at"
    assert direct.client().post("/v1/uploads", json=body).json()["present"] is True
    assert keys_of(direct.store.objects, STAGING) == []


def test_what_has_no_place_in_the_store_is_removed_from_the_bucket(direct: Site, tmp_path: Path) -> None:
    for data, code in ((b"My own diary, dear reader.", "bad_file"), (b"\x80\x04pickled", "unsafe_file")):
        path = tmp_path / "f"
        path.write_bytes(data)
        body = asked(path)
        where = direct.client().post("/v1/uploads", json=body).json()
        assert httpx2.put(where["url"], content=data, headers=where["headers"]).status_code == 200
        refused = direct.client().post("/v1/uploads", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
        assert keys_of(direct.store.objects, STAGING) == []
        assert direct.client().get(f"/v1/artifacts/{body['digest']}").status_code == 404


def test_a_bucket_that_did_not_look_is_no_way_in(direct: Site, large: Path) -> None:
    body = asked(large)
    direct.store.objects.put(staging_key(body["digest"], OWNER), b"x" * body["size"])
    refused = direct.client().post("/v1/uploads", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_file")
    assert keys_of(direct.store.objects, STAGING) == []


def test_a_lost_answer_of_the_bucket_is_no_error(direct: Site, wire: Wire, client: Any, large: Path) -> None:
    with listening(direct.app) as port:
        wire.n_lost = 1
        with pytest.raises(FileFormatError, match="xpert-space"):
            client(f"http://127.0.0.1:{port}").add_space(large)
    assert direct.store.artifacts.stat(sha256_hex(large.read_bytes())).size == large.stat().st_size


def test_settings_that_cannot_be(tmp_path: Path, s3_place: Place) -> None:
    with pytest.raises(InputError, match="not a folder"):
        Services.over(Store(FolderObjects(tmp_path)), Settings(direct="https://s3.example.org"))
    for wrong in ("s3.example.org", "https://u:p@s3.example.org", "https://s3.example.org/bucket"):
        with pytest.raises(InputError, match="endpoint"):
            Services.over(s3_place.store(), Settings(direct=wrong))
    objects = s3_place.objects()
    assert isinstance(objects, S3Objects)
    signed = objects.at("https://s3.example.org").address("GET", "v1/x", headers={}, lifetime_s=60)
    assert re.match(r"https://s3\.example\.org/xpert-tests/.*/v1/x\?.*X-Amz-Expires=60.*X-Amz-Signature=[0-9a-f]{64}$", signed)
    assert s3_place.password not in signed
    assert UploadDraft(digest="0" * 64, size=1).kind == "adapter"
