"""An S3 bucket, or a prefix in one, as a store: any endpoint, through the `minio` package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlunsplit

import certifi
import urllib3
from minio import Minio, signer
from minio.credentials.providers import EnvAWSProvider, Provider
from minio.datatypes import Part
from minio.error import InvalidResponseError, S3Error, ServerError
from minio.helpers import DictType
from minio.time import to_amz_date, utcnow
from urllib3.exceptions import HTTPError, SSLError

from xpert.core.errors import ConflictError, InputError, NotFoundError, StorageError, XpertError
from xpert_services.store.objects import CHUNK, PART_SIZE, Content, ObjectInfo, Source, check_key, check_prefix, check_span

# NoSuchUpload: two writers of one file share one upload, and the other one has completed or dropped it.
LOST = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"}
REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "Redirect", "BadRequest"}
ADVICE = {
    ("AccessDenied", "AllAccessDisabled"): "Its owner must grant s3:GetObject, PutObject, DeleteObject, ListBucket and the like",
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidTokenId"): "Check the credentials",
    ("RequestTimeTooSkewed",): "Set this machine's clock",
    ("XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"): "It was damaged on its way: store it again",
    ("NotImplemented", "MethodNotAllowed"): "The store needs conditional writes and multipart uploads: use another server",
    ("InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"): "Try again",
    ("XMinioStorageFull", "QuotaExceeded", "EntityTooLarge"): "Free space or raise the quota",
}
ADDRESSING = ("auto", "path", "virtual")
N_PARALLEL = 3
MOST_PARTS = 10_000


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket is and how it is addressed.

    Attributes
    ----------
    bucket
        Its name; it must exist.
    prefix
        What every key starts with, without slashes at its ends; empty for the whole bucket.
    url
        ``https://HOST[:PORT]``, or ``http://`` without TLS.
    region
        Region that requests are signed for.
    addressing
        "path" (HOST/BUCKET), "virtual" (BUCKET.HOST), or "auto": virtual where the host is known to want it.
    ca
        File with the certificates to trust instead of the usual ones.
    """

    bucket: str
    prefix: str = ""
    url: str = "https://s3.amazonaws.com"
    region: str = "us-east-1"
    addressing: str = "auto"
    ca: str = field(default_factory=lambda: os.environ.get("SSL_CERT_FILE") or certifi.where())


class S3Objects:
    """Objects of an S3 bucket.

    Credentials sign headers, never URLs, because URLs end up in messages and logs; `address` alone is for others to use.

    Parameters
    ----------
    endpoint
        Bucket and address.
    credentials
        What signs requests (``minio.credentials``); by default the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
        AWS_SESSION_TOKEN, read for every request.
    pool
        HTTP client to use instead of an own one, such as ``urllib3.ProxyManager``.

    Raises
    ------
    InputError
        The endpoint's address cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, *, credentials: Provider | None = None, pool: urllib3.PoolManager | None = None
    ) -> None:
        self.endpoint, self._credentials = endpoint, credentials or EnvAWSProvider()
        address = urllib3.util.parse_url(endpoint.url)
        if address.scheme not in ("http", "https") or not address.netloc or address.auth or address.path or address.query:
            raise InputError("The endpoint of an S3 store must be http(s)://HOST[:PORT], without credentials, path or query.")
        if endpoint.addressing not in ADDRESSING:
            raise InputError(f"Addressing {endpoint.addressing!r} is unknown; expected one of {', '.join(ADDRESSING)}.")
        try:
            self._client = _Client(
                address.netloc,
                secure=address.scheme == "https",
                region=endpoint.region,
                credentials=self._credentials,
                http_client=pool or _pool(endpoint.ca),
            )
        except ValueError as error:
            raise InputError(f"The S3 endpoint '{endpoint.url}' cannot be used: {error}. Correct it.") from error
        if endpoint.addressing == "virtual":
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif endpoint.addressing == "path":
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"S3Objects('s3://{self.endpoint.bucket}/{self.endpoint.prefix}' at '{self.endpoint.url}')"

    def at(self, url: str) -> S3Objects:
        """Return the same bucket behind another address.

        Raises
        ------
        InputError
            It is none.
        """
        return S3Objects(replace(self.endpoint, url=url), credentials=self._credentials)

    def address(self, method: str, key: str, *, headers: Mapping[str, str], lifetime_s: int) -> str:
        """Return an address that whoever has it may use for one kind of request, sent with these headers and values."""
        with self._errors("sign for", key):
            return self._client.signed(method, self.endpoint.bucket, self._name(key), headers, lifetime_s)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """See `ObjectStore.put`."""
        headers = {}
        if if_absent:
            headers["If-None-Match"] = "*"
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        try:
            with self._errors("write", key):
                return self._client.put_conditional(self.endpoint.bucket, self._name(key), data, headers)
        except NotFoundError as error:
            if if_match is None:
                raise
            raise ConflictError(f"'{key}' was removed by another writer. Read it and decide again.") from error

    def put_file(self, key: str, source: Source) -> None:
        """See `ObjectStore.put_file`: parts that an interrupted call left in the bucket are not sent again."""
        bucket, name = self.endpoint.bucket, self._name(key)
        if len(source.parts) > MOST_PARTS:
            raise InputError(f"'{source.path}' has {source.size} bytes, S3 takes at most {MOST_PARTS * PART_SIZE} so. Split it.")
        with self._errors("write", key):
            if len(source.parts) == 1:
                self._client.put_conditional(bucket, name, source.part(0), {})
            else:
                self._client.put_parts(bucket, name, source)
        found = self.stat(key).size
        if found != source.size:
            raise StorageError(f"'{key}' has {found} bytes in {self!r} after {source.size} were sent. Store it again.")

    def get(self, key: str) -> Content:
        """See `ObjectStore.get`."""
        with self._errors("read", key):
            response = self._client.get_object(self.endpoint.bucket, self._name(key))
            try:
                return Content(response.read(), response.headers.get("etag", "").strip('"'))
            finally:
                response.close()
                response.release_conn()

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `ObjectStore.read`."""
        check_span(key, start, end)
        if start == end:  # S3 refuses an empty range, as it does one that begins behind the end
            self.stat(key)
            return
        length = 0 if end is None else end - start
        with self._errors("read", key):
            try:
                response = self._client.get_object(self.endpoint.bucket, self._name(key), offset=start, length=length)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return
                raise
            try:
                yield from response.stream(CHUNK)
            finally:
                response.close()
                response.release_conn()

    def stat(self, key: str) -> ObjectInfo:
        """See `ObjectStore.stat`."""
        with self._errors("look up", key):
            found = self._client.stat_object(self.endpoint.bucket, self._name(key))
        return ObjectInfo(key, found.size or 0, found.last_modified.timestamp() if found.last_modified else 0.0)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        base = self._base()
        with self._errors("list", prefix):
            for found in self._client.list_objects(self.endpoint.bucket, prefix=base + check_prefix(prefix), recursive=True):
                modified = found.last_modified.timestamp() if found.last_modified else 0.0
                yield ObjectInfo((found.object_name or "").removeprefix(base), found.size or 0, modified)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        self.discard(key)
        with self._errors("remove", key):
            self._client.remove_object(self.endpoint.bucket, self._name(key))

    def unfinished(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.unfinished`."""
        base = self._base() + check_prefix(prefix)
        with self._errors("list", prefix):
            names = self._client.uploading(self.endpoint.bucket)
        yield from sorted(prefix + name.removeprefix(base) for name in names if name.startswith(base))

    def discard(self, key: str) -> None:
        """See `ObjectStore.discard`."""
        with self._errors("remove", key):
            self._client.abandon(self.endpoint.bucket, self._name(key))

    def now(self) -> float:
        """See `ObjectStore.now`: the server's clock, so that ages do not depend on this machine's."""
        with self._errors("look up", "now"):
            # An answer's date is cut to whole seconds, those of a listing are not: nothing shall look younger than new.
            return self._client.server_time(self.endpoint.bucket) + 1

    def _base(self) -> str:
        return f"{self.endpoint.prefix}/" if self.endpoint.prefix else ""

    def _name(self, key: str) -> str:
        return self._base() + check_key(key)

    @contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        where = f"Cannot {verb} '{key}' in {self!r}"
        try:
            yield
        except S3Error as error:
            raise _explained(where, error) from error
        except (SSLError, urllib3.exceptions.MaxRetryError) as error:
            reason = getattr(error, "reason", None) or error
            advice = "Name the file of its CA with 'ca='" if isinstance(reason, SSLError) else "Is it up? Check the endpoint"
            raise StorageError(f"{where}: {type(reason).__name__} after all retries. {advice}.") from error
        except (HTTPError, ServerError, InvalidResponseError, OSError) as error:
            raise StorageError(f"{where}: the connection or the answer failed ({type(error).__name__}). Try again.") from error
        except ValueError as error:
            raise StorageError(f"{where}: the credentials or the request are refused before sending. Check both.") from error


class _Client(Minio):
    """The package's client with the requests that its public methods lack.

    `put_object` takes no condition, and its multipart upload aborts where it is interrupted, so that nothing could be resumed.
    Signed URLs, the public way round, would carry session tokens into log lines.
    """

    def put_conditional(self, bucket: str, name: str, data: bytes, headers: dict[str, str]) -> str:
        """Write an object under the conditions in ``headers`` and return its etag."""
        return self._put_object(bucket, name, data, dict(headers)).etag or ""

    def put_parts(self, bucket: str, name: str, source: Source) -> None:
        """Upload in parts, going on with an upload that was begun."""
        begun = self._begun(bucket, name)
        upload = begun[-1] if begun else self._create_multipart_upload(bucket, name, {})
        there = self._parts(bucket, name, upload)

        def send(number: int) -> Part:
            data = source.part(number)
            etag = there.get(number + 1)
            if etag != hashlib.md5(data, usedforsecurity=False).hexdigest():
                etag = self._upload_part(bucket, name, data, None, upload, number + 1)
            return Part(number + 1, etag)

        with ThreadPoolExecutor(N_PARALLEL) as pool:
            parts = list(pool.map(send, range(len(source.parts))))
        if not self._complete_multipart_upload(bucket, name, upload, parts).etag:
            # S3 may say 200 and then, in the answer's body, that it failed.
            raise ServerError("the parts were not put together", 500)
        # What others that stored the same file at the same time have sent: killed ones would leave it for good.
        self.abandon(bucket, name)

    def signed(self, method: str, bucket: str, name: str, headers: Mapping[str, str], lifetime_s: int) -> str:
        """Return an address with a signature; the package's own signs no headers, so that a size or a digest would not bind."""
        if self._provider is None:
            raise ValueError("nothing to sign with")
        held, date, region = self._provider.retrieve(), utcnow(), self._get_region(bucket)
        scope = signer._get_scope(date, region, "s3")
        query: DictType = {
            "X-Amz-Algorithm": signer.SIGN_V4_ALGORITHM,
            "X-Amz-Credential": f"{held.access_key}/{scope}",
            "X-Amz-Date": to_amz_date(date),
            "X-Amz-Expires": str(lifetime_s),
            "X-Amz-SignedHeaders": ";".join(sorted(["host", *headers])),
            **({"X-Amz-Security-Token": held.session_token} if held.session_token else {}),
        }
        url = self._base_url.build(method=method, region=region, bucket_name=bucket, object_name=name, query_params=query)
        told, _ = signer._get_canonical_request_hash(method, url, {"host": url.netloc, **headers}, "UNSIGNED-PAYLOAD")
        key = signer._get_signing_key(held.secret_key, date, region, "s3")
        signature = signer._get_signature(key, signer._get_string_to_sign(date, scope, told))
        return urlunsplit(url._replace(query=f"{url.query}&X-Amz-Signature={signature}"))

    def abandon(self, bucket: str, name: str) -> None:
        """Drop what interrupted uploads left."""
        for upload in self._begun(bucket, name):
            self._abort_multipart_upload(bucket, name, upload)

    def server_time(self, bucket: str) -> float:
        """Return the server's clock from the date that every answer carries."""
        response = self._execute("HEAD", bucket)
        return parsedate_to_datetime(response.headers["date"]).timestamp()

    def uploading(self, bucket: str) -> set[str]:
        """Return the names to which uploads have begun and not ended.

        The listing has no prefix: MinIO takes one for a whole name.
        """
        found: set[str] = set()
        marker = ""
        while True:
            page = self._list_multipart_uploads(bucket, key_marker=marker or None)
            found |= {upload.object_name for upload in page.uploads}
            if not page.is_truncated or (page.next_key_marker or "") <= marker:
                return found
            marker = page.next_key_marker or ""

    def _begun(self, bucket: str, name: str) -> list[str]:
        found = self._list_multipart_uploads(bucket, prefix=name).uploads
        return [upload.upload_id or "" for upload in found if upload.object_name == name]

    def _parts(self, bucket: str, name: str, upload: str) -> dict[int, str]:
        found: dict[int, str] = {}
        marker: str | None = None
        while True:
            page = self._list_parts(bucket, name, upload, part_number_marker=marker)
            found |= {part.part_number: part.etag for part in page.parts}
            if not page.is_truncated:
                return found
            marker = str(page.next_part_number_marker)


def _explained(where: str, error: S3Error) -> XpertError:
    code = error.code or "an unknown error"
    if code == "NoSuchBucket":
        return NotFoundError(f"{where}: there is no such bucket. Create it or check the URL.")
    if code == "NoSuchKey":
        return NotFoundError(f"{where}: there is no such object.")
    if code in LOST:
        return ConflictError(f"{where}: another writer was first ({code}). Read it and decide again.")
    if code in REGION:
        return StorageError(f"{where}: the server says {code} ({error.message}). Give the bucket's region with 'region='.")
    advice = next((advice for codes, advice in ADVICE.items() if code in codes), "Check the endpoint's settings")
    return StorageError(f"{where}: the server says {code}. {advice}.")


def _pool(ca: str) -> urllib3.PoolManager:
    # The package's own client would be the same but for its timeouts of five minutes and the file of certificates.
    # Every request may be sent twice: a write without condition is the same again, one with it is then refused, and a
    # second multipart upload is dropped with the first. A server's wish to wait longer is not obeyed in silence.
    retries = urllib3.Retry(
        total=5, backoff_factor=0.2, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None, retry_after_max=10
    )
    timeout = urllib3.Timeout(connect=10, read=60)
    return urllib3.PoolManager(timeout=timeout, maxsize=10, retries=retries, cert_reqs="CERT_REQUIRED", ca_certs=ca)
