from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from minio import Minio
from minio_server import Server, running
from store_cases import BUCKET, Place, Wire

from xpert_services.store import ObjectStore, Store

DOMAIN = "s3.test"


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("minio"), domain=DOMAIN) as server:
        Minio(f"127.0.0.1:{server.port}", server.user, server.password, secure=False, region="us-east-1").make_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_place(minio: Server) -> Place:
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}?{urlencode({'endpoint': minio.url})}"
    return Place(url, minio.user, minio.password)


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    return Place((tmp_path / "store").as_uri())


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def objects(place: Place) -> ObjectStore:
    return place.objects()


@pytest.fixture
def store(place: Place) -> Store:
    return place.store()


@pytest.fixture
def wire(minio: Server) -> Iterator[Wire]:
    made = Wire(minio.port)
    yield made
    made.close()
