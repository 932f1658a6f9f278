"""Fetching an adapter from where its owner keeps it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import urllib3
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioException, S3Error

from xpert.core.errors import (
    AccessError,
    FileFormatError,
    InputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    XpertError,
)
from xpert.core.files import ADAPTER_FILES

FILES = CONFIG, WEIGHTS = ADAPTER_FILES
CHUNK = 1 << 20
PATIENCE = httpx2.Timeout(30.0, connect=10.0)


def fetch(uri: str, digest: str, secret: Mapping[str, str], folder: Path, *, most_bytes: int) -> Path:
    """Fetch an adapter's two files into a folder and compare the weights with their digest.

    Parameters
    ----------
    uri
        ``s3://BUCKET/PREFIX``, ``https://HOST/FOLDER`` or ``hf://OWNER/REPOSITORY[@REVISION]``.
    digest
        SHA-256 of the weights.
    secret
        Credentials, by the names that the resource's reference documents.
    folder
        Where they go.
    most_bytes
        Largest file that is taken.

    Raises
    ------
    NotFoundError, AccessError, UnavailableError
        They are not there, may not be read, or their host does not answer.
    TooLargeError
        A file is larger than allowed; it is not fetched to its end.
    FileFormatError
        The weights are others.
    """
    scheme = urlsplit(uri).scheme
    ways = {"s3": _from_s3, "https": _from_https, "hf": _from_hub}
    if scheme not in ways:
        raise InputError(f"Cannot fetch '{uri}': expected an address that begins with s3://, https:// or hf://.")
    for name in FILES:
        ways[scheme](uri, name, secret, folder / name, most_bytes)
    found = _sha256(folder / WEIGHTS)
    if found != digest:
        raise FileFormatError(
            f"'{uri}' holds other weights: the digest of {WEIGHTS} is {found[:12]}, expected {digest[:12]}. "
            "Correct spec.adapter.digest in a new resource, or put the right file there."
        )
    return folder


def _from_s3(uri: str, name: str, secret: Mapping[str, str], path: Path, most: int) -> None:
    parts = urlsplit(uri)
    bucket, key = parts.netloc, f"{parts.path.strip('/')}/{name}".lstrip("/")
    given = secret.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    endpoint = urlsplit(given)
    if endpoint.scheme not in {"http", "https"} or not endpoint.netloc:
        raise InputError(f"AWS_ENDPOINT_URL in the Secret is '{given}', expected https://HOST[:PORT] or http://HOST[:PORT].")
    provider = None
    if "AWS_ACCESS_KEY_ID" in secret:
        provider = StaticProvider(
            secret["AWS_ACCESS_KEY_ID"], secret.get("AWS_SECRET_ACCESS_KEY", ""), secret.get("AWS_SESSION_TOKEN")
        )
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=10, read=30),
        retries=urllib3.Retry(total=3, backoff_factor=0.3),
        cert_reqs="CERT_REQUIRED",
    )
    client = Minio(
        endpoint.netloc,
        region=secret.get("AWS_REGION") or "us-east-1",
        secure=endpoint.scheme == "https",
        credentials=provider,
        http_client=pool,
    )
    try:
        answer = client.get_object(bucket, key)
    except ValueError as error:  # what no bucket can be called
        raise InputError(f"Cannot fetch '{uri}': {error}. Correct the address in a new resource.") from error
    except S3Error as error:
        told = f"'{uri}': {name} cannot be read: {error.code}."
        if error.response.status >= 500 or error.response.status == 429:
            raise UnavailableError(f"{told} {endpoint.netloc} is not well or busy.") from error
        if error.code in {"NoSuchKey", "NoSuchBucket"}:
            raise NotFoundError(f"{told} Upload the adapter there, or correct the address in a new resource.") from error
        raise AccessError(f"{told} Look into the credentials that secretRef names.") from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise UnavailableError(f"'{uri}': {endpoint.netloc} does not answer: {error}.") from error
    try:
        _write(path, answer.stream(CHUNK), most, uri, name)
    except urllib3.exceptions.HTTPError as error:
        raise UnavailableError(f"'{uri}': {endpoint.netloc} broke off in the midst of {name}: {error}.") from error
    finally:
        answer.close()
        answer.release_conn()


def _from_https(uri: str, name: str, secret: Mapping[str, str], path: Path, most: int) -> None:
    headers = {"Authorization": f"Bearer {secret['token']}"} if secret.get("token") else {}
    url = f"{uri.rstrip('/')}/{name}"
    try:
        # Redirects are not followed: a token would go with them, and an address inside the cluster could be reached.
        with httpx2.stream("GET", url, headers=headers, timeout=PATIENCE) as answer:
            if answer.status_code in {401, 403}:
                raise AccessError(f"'{url}' was refused with status {answer.status_code}. Look into what secretRef names.")
            if answer.status_code >= 500 or answer.status_code == 429:
                raise UnavailableError(f"'{url}' was answered with status {answer.status_code}.")
            if answer.status_code != 200:
                raise NotFoundError(f"'{url}' was answered with status {answer.status_code}, expected 200.")
            _write(path, answer.iter_bytes(CHUNK), most, uri, name)
    except httpx2.InvalidURL as error:
        raise InputError(f"Cannot fetch '{url}': {error}. Correct the address in a new resource.") from error
    except httpx2.HTTPError as error:
        raise UnavailableError(f"'{url}' does not answer: {error}.") from error


def _from_hub(uri: str, name: str, secret: Mapping[str, str], path: Path, most: int) -> None:
    repository, _, revision = uri.removeprefix("hf://").partition("@")
    token = secret.get("token") or False
    try:
        # Its library downloads to the end, whatever that takes: so the size is asked for first.
        url = hf_hub_url(repository, name, revision=revision or None)
        _check_size(get_hf_file_metadata(url, token=token).size or 0, most, uri, name)
        found = hf_hub_download(repository, name, revision=revision or None, token=token, cache_dir=path.parent / "hub")
    except RepositoryNotFoundError as error:
        raise NotFoundError(f"'{uri}' is not on the hub, or not for this token.") from error
    except HfHubHTTPError as error:
        raise _refused_by_hub(uri, name, error) from error
    except (httpx2.HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise UnavailableError(f"'{uri}': the hub does not answer: {error}") from error
    except (EntryNotFoundError, ValueError) as error:
        raise NotFoundError(f"'{uri}': {name} cannot be fetched: {error}.") from error
    with Path(found).open("rb") as stream:
        _write(path, iter(lambda: stream.read(CHUNK), b""), most, uri, name)


def _refused_by_hub(uri: str, name: str, error: HfHubHTTPError) -> XpertError:
    status = error.response.status_code
    told = f"'{uri}': {name} was answered with status {status}."
    if status in {401, 403}:
        return AccessError(f"{told} Look into what secretRef names.")
    return UnavailableError(told) if status >= 500 or status == 429 else NotFoundError(told)


def _check_size(size: int, most: int, uri: str, name: str) -> None:
    if size > most:
        raise TooLargeError(f"'{uri}': {name} has more than {most >> 20} MiB, which is the operator's limit (--most-mib).")


def _write(path: Path, chunks: Iterable[bytes], most: int, uri: str, name: str) -> None:
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            _check_size(size, most, uri, name)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
