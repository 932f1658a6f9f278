"""What a bucket's owner must allow: with the policy of docs/operating.md everything works, with an action less it does not."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, blocks
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio_server import REGION, Server
from store_cases import BUCKET, Place, make_file

from xpert.core.errors import StorageError
from xpert_services.store import Draft, Retention, open_store
from xpert_services.store.keys import BLOBS
from xpert_services.store.objects import PART_SIZE, Source

POLICY: dict[str, Any] = json.loads(
    next(block.code for block in blocks(ROOT / "docs" / "operating.md", "json") if "s3:GetObject" in block.code)
)
ACTIONS = sorted(action for statement in POLICY["Statement"] for action in statement["Action"])
AT_ONCE = Retention(timedelta(0))


def allowed(minio: Server, place: Place, *, without: str = "") -> Place:
    """Return the place as a new user sees it who has the policy, less an action."""
    prefix = place.url.partition("?")[0].removeprefix(f"s3://{BUCKET}/")
    told = json.loads(json.dumps(POLICY).replace("BUCKET", BUCKET).replace("PREFIX", prefix))
    for statement in told["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != without]
    told["Statement"] = [statement for statement in told["Statement"] if statement["Action"]]
    admin = MinioAdmin(
        endpoint=f"127.0.0.1:{minio.port}",
        credentials=StaticProvider(minio.user, minio.password),
        region=REGION,
        secure=False,
    )
    user, password = f"user-{secrets.token_hex(6)}", secrets.token_hex(16)
    admin.user_add(user, password)
    admin.policy_add(user, policy=told)
    admin.policy_set(user, user=user)
    return replace(place, user=user, password=password)


def live(place: Place, folder: Path) -> None:
    """Do with a store whatever a site does."""
    objects, store = place.objects(), place.store()
    large = make_file(folder / "large", size=PART_SIZE + 1)
    digest = store.artifacts.put(large, kind="adapter").digest
    record = store.records.create("c", "n", Draft({}, {"f": digest}))
    assert store.artifacts.download(digest, folder / "copy").read_bytes() == large.read_bytes()
    store.artifacts.check(digest)
    store.copy_to(open_store(folder / "backup"))
    store.records.remove(record)
    assert store.collect_garbage(retention=AT_ONCE).artifacts == (digest,)
    with pytest.raises(Exception, match="not in the store"):
        store.artifacts.stat(digest)
    leave_unfinished(place)
    objects.put_file("a/large", Source.read(large))
    assert list(objects.unfinished("a/")) == []
    store.collect_garbage(retention=AT_ONCE)
    assert [info.key for info in objects.scan(BLOBS)] == []


def leave_unfinished(place: Place) -> None:
    """Begin two uploads of a file, as two killed writers leave them."""
    host = place.url.partition("endpoint=")[2].replace("%3A", ":").replace("%2F", "/").removeprefix("http://")
    client = Minio(host, place.user, place.password, secure=False, region=REGION)
    name = f"{place.url.partition('?')[0].removeprefix(f's3://{BUCKET}/')}/a/large"
    for _ in range(2):
        client._create_multipart_upload(BUCKET, name, {})


def test_the_policy_is_enough(minio: Server, s3_place: Place, tmp_path: Path) -> None:
    live(allowed(minio, s3_place), tmp_path)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_the_policy_is_needed(minio: Server, s3_place: Place, tmp_path: Path, action: str) -> None:
    with pytest.raises(StorageError, match="AccessDenied"):
        live(allowed(minio, s3_place, without=action), tmp_path)


def test_the_policy_opens_no_other_prefix_and_no_other_bucket(minio: Server, s3_place: Place) -> None:
    user = allowed(minio, s3_place)
    for url in (s3_place.url.replace("?", "-other?"), s3_place.url.replace(BUCKET, "another-bucket")):
        with pytest.raises(StorageError, match="AccessDenied"):
            replace(user, url=url).objects().put("a", b"1")
        with pytest.raises(StorageError, match="AccessDenied"):
            replace(user, url=url).objects().get("a")
