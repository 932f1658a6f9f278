"""What only S3 has: addressing, TLS, session tokens, secrets that must not leak."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme
import urllib3
from minio import Minio
from minio.credentials.providers import AssumeRoleProvider, StaticProvider
from minio_server import REGION, Server, running
from store_cases import BUCKET, Place, make_file

from xpert.core.errors import InputError, NotFoundError, StorageError
from xpert_services.store import Draft, Endpoint, S3Objects, open_store
from xpert_services.store.objects import PART_SIZE, Source
from xpert_services.store.opening import open_objects


def round_trip(objects: S3Objects, tmp_path: Path) -> None:
    source = Source.read(make_file(tmp_path / "file", size=PART_SIZE + 1))
    objects.put_file("a/large", source)
    etag = objects.put("a/small", b"1", if_absent=True)
    objects.put("a/small", b"22", if_match=etag)
    assert [(info.key, info.size) for info in objects.scan("a/")] == [("a/large", PART_SIZE + 1), ("a/small", 2)]
    assert b"".join(objects.read("a/large", start=PART_SIZE - 1)) == source.path.read_bytes()[-2:]
    for info in list(objects.scan("")):
        objects.delete(info.key)


class Noting(urllib3.ProxyManager):
    """A client that notes which hosts it asks; the server itself is the proxy, as no name of ours resolves."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: object) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        self.hosts.add(urllib3.util.parse_url(url).host)
        return super().urlopen(method, url, redirect, **options)  # type: ignore[arg-type]


class Damaging(urllib3.PoolManager):
    """A client that changes a byte of what it sends, as a bad wire does."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: object) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        if method == "PUT" and isinstance(options["body"], bytes):
            options["body"] = b"?" + options["body"][1:]
        return super().urlopen(method, url, redirect, **options)  # type: ignore[arg-type]


def refuses_damage(endpoint: Endpoint, credentials: StaticProvider, pool: Damaging, tmp_path: Path) -> None:
    objects = S3Objects(endpoint, credentials=credentials, pool=pool)
    with pytest.raises(StorageError, match="damaged on its way"):
        objects.put("a", b"small")
    for size in (10, PART_SIZE + 1):
        source = Source.read(make_file(tmp_path / "file", size=size))
        with pytest.raises(StorageError, match="damaged on its way"):
            objects.put_file("a", source)
    assert list(objects.scan("")) == []


def test_what_was_damaged_on_its_way_is_refused(minio: Server, tmp_path: Path) -> None:
    with Damaging() as pool:
        endpoint = Endpoint(BUCKET, "damaged", minio.url)
        refuses_damage(endpoint, StaticProvider(minio.user, minio.password), pool, tmp_path)


class Undecided(urllib3.PoolManager):
    """A client whose server says 200 to the end of an upload, and in the answer's body that it failed."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: object) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        if method == "POST" and "uploadId=" in url:
            return urllib3.HTTPResponse(b"<Error><Code>InternalError</Code></Error>", status=200)
        return super().urlopen(method, url, redirect, **options)  # type: ignore[arg-type]


def test_an_upload_that_fails_at_its_end_goes_on(minio: Server, s3_place: Place, tmp_path: Path) -> None:
    source = Source.read(make_file(tmp_path / "file", size=PART_SIZE + 1))
    endpoint = Endpoint(BUCKET, s3_place.url.partition("?")[0].rpartition("/")[2], minio.url)
    with Undecided() as pool, pytest.raises(StorageError, match="Try again"):
        S3Objects(endpoint, credentials=s3_place.credentials, pool=pool).put_file("a/large", source)
    objects = s3_place.objects()
    assert list(objects.scan("")) == []
    assert list(objects.unfinished("")) == ["a/large"]
    objects.put_file("a/large", source)
    assert [info.size for info in objects.scan("")] == [PART_SIZE + 1]
    assert list(objects.unfinished("")) == []


def test_what_several_writers_of_one_file_began_is_gone_once_one_has_ended(s3_place: Place, tmp_path: Path) -> None:
    objects = s3_place.objects()
    assert isinstance(objects, S3Objects)
    for _ in range(3):
        objects._client._create_multipart_upload(BUCKET, objects._name("a/large"), {})
    objects.put_file("a/large", Source.read(make_file(tmp_path / "file", size=PART_SIZE + 1)))
    assert list(objects.unfinished("")) == []
    with pytest.raises(InputError, match="at most 83886080000"):
        objects.put_file("a/huge", Source(tmp_path / "file", "0" * 64, 10_001 * PART_SIZE, ("0" * 64,) * 10_001))


def test_another_region_is_named(minio: Server) -> None:
    credentials = StaticProvider(minio.user, minio.password)
    objects = open_objects(f"s3://{BUCKET}?endpoint={minio.url}&region=eu-west-1", credentials=credentials)
    for call in (lambda: objects.get("a"), lambda: objects.put("a", b"1"), lambda: list(objects.scan(""))):
        with pytest.raises(StorageError, match=r"expecting 'us-east-1'.*'region='"):
            call()


class Busy(BaseHTTPRequestHandler):
    """A server that always wants an hour."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._answer

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_wants_us_to_wait_for_long_is_not_obeyed_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(urllib3.util.retry.time, "sleep", waits.append)
    source = Source.read(make_file(tmp_path / "file", size=10))
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        objects = S3Objects(Endpoint(BUCKET, "", f"http://127.0.0.1:{server.server_port}"), credentials=StaticProvider("k", "s"))
        for call in (lambda: objects.get("a"), lambda: objects.put_file("a", source)):
            waits.clear()
            with pytest.raises(StorageError, match="after all retries"):
                call()
            assert len(waits) == 5
            assert max(waits) <= 10
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("addressing", "host"), [("virtual", f"{BUCKET}.s3.test"), ("path", "s3.test"), ("auto", "s3.test")])
def test_addressing(minio: Server, tmp_path: Path, addressing: str, host: str) -> None:
    endpoint = Endpoint(BUCKET, f"by-{addressing}", "http://s3.test", addressing=addressing)
    with Noting(minio.url) as pool:
        pool.hosts = set()
        round_trip(S3Objects(endpoint, credentials=StaticProvider(minio.user, minio.password), pool=pool), tmp_path)
        assert pool.hosts == {host}


def test_a_bucket_without_a_prefix(minio: Server, tmp_path: Path) -> None:
    Minio(f"127.0.0.1:{minio.port}", minio.user, minio.password, secure=False, region="us-east-1").make_bucket("whole-bucket")
    objects = open_objects(f"s3://whole-bucket?endpoint={minio.url}", credentials=StaticProvider(minio.user, minio.password))
    assert isinstance(objects, S3Objects)
    round_trip(objects, tmp_path)


def test_tls_with_an_own_ca(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(certificates / "ca.pem"))
    issued = ca.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(certificates / "public.crt"))
    issued.private_key_pem.write_to_path(str(certificates / "private.key"))
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server", certificates=certificates) as server:
        credentials = StaticProvider(server.user, server.password)
        trusting = urllib3.PoolManager(ca_certs=str(certificates / "ca.pem"))
        with trusting:
            address = f"127.0.0.1:{server.port}"
            Minio(address, server.user, server.password, region="us-east-1", http_client=trusting).make_bucket(BUCKET)
        url = f"s3://{BUCKET}/tls?endpoint={server.url}"
        objects = open_objects(f"{url}&ca={certificates / 'ca.pem'}", credentials=credentials)
        assert isinstance(objects, S3Objects)
        round_trip(objects, tmp_path)
        with Damaging(ca_certs=str(certificates / "ca.pem")) as damaging:
            refuses_damage(Endpoint(BUCKET, "damaged", server.url), credentials, damaging, tmp_path)
        distrusting = S3Objects(
            Endpoint(BUCKET, "tls", server.url), credentials=credentials, pool=urllib3.PoolManager(retries=False)
        )
        with pytest.raises(StorageError, match="Name the file of its CA"):
            distrusting.get("a")


def test_session_tokens(minio: Server, s3_place: Place, tmp_path: Path) -> None:
    provider = AssumeRoleProvider(sts_endpoint=minio.url, access_key=minio.user, secret_key=minio.password, region=REGION)
    given = provider.retrieve()
    assert given.session_token
    objects = open_objects(s3_place.url, credentials=provider)
    assert isinstance(objects, S3Objects)
    round_trip(objects, tmp_path)
    without = open_objects(s3_place.url, credentials=StaticProvider(given.access_key, given.secret_key))
    with pytest.raises(StorageError, match="Check the credentials"):
        without.get("a")


def test_credentials_from_the_environment(minio: Server, s3_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given = AssumeRoleProvider(sts_endpoint=minio.url, access_key=minio.user, secret_key=minio.password, region=REGION).retrieve()
    for name in ("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError, match="credentials"):
        open_store(s3_place.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", given.session_token or "")
    assert open_store(s3_place.url).records.create("c", "n", Draft({})).revision == 1


@pytest.mark.slow
def test_secrets_reach_no_message_and_no_log(minio: Server, s3_place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = AssumeRoleProvider(sts_endpoint=minio.url, access_key=minio.user, secret_key=minio.password, region=REGION).retrieve()
    secrets = [given.secret_key, given.session_token or "", "wrong-secret"]
    session = StaticProvider(given.access_key, given.secret_key, given.session_token)
    open_store(s3_place.url, credentials=session).records.create("c", "n", Draft({}))
    said = [repr(open_objects(s3_place.url, credentials=session))]
    wrong = StaticProvider(given.access_key, "wrong-secret", given.session_token)
    for place, credentials in ((s3_place, wrong), (s3_place.at("http://127.0.0.1:1"), session)):
        with pytest.raises(StorageError) as error:
            open_store(place.url, credentials=credentials)
        said += traceback.format_exception(error.value)
    assert "127.0.0.1" in caplog.text
    for secret in secrets:
        assert secret
        assert secret not in caplog.text + "".join(said)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/prefix",
        "s3:///prefix",
        "s3://bucket?secret=hidden",
        "s3://bucket?endpoint=http://key:hidden@host",
        "s3://bucket?endpoint=ftp://host",
        "s3://bucket?endpoint=http://host/hidden",
        "s3://bucket?addressing=hidden&endpoint=http://host",
        "s3://bucket?endpoint=http://host&region=not/one",
        "https://host/bucket",
        "file://host/path",
    ],
)
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(InputError) as error:
        open_objects(url)
    assert "key:" not in str(error.value)


def test_a_bucket_that_is_not_there(minio: Server) -> None:
    with pytest.raises(NotFoundError, match="no such bucket"):
        open_store(f"s3://no-such-bucket?endpoint={minio.url}", credentials=StaticProvider(minio.user, minio.password))


def test_amazon_is_addressed_by_virtual_hosts() -> None:
    host = S3Objects(Endpoint("my-bucket"))._client._base_url.build(
        method="GET", region="eu-central-1", bucket_name="my-bucket", object_name="key"
    )
    assert host.netloc == "my-bucket.s3.eu-central-1.amazonaws.com"
