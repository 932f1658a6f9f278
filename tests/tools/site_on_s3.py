"""A site over an S3 bucket, for people who want to see that path: ``./taskw up:s3``, and ``./taskw down`` as always.

The S3 server is the tests' own MinIO, on the loopback address, with credentials that are made at each start. Nobody maintains it
upstream any more: a site that is meant to last takes a bucket of whoever offers one (STORE=s3://... ./taskw up).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import minio_server
from minio import Minio

from xpert.core.errors import XpertError
from xpert_services.serving import background
from xpert_services.serving.__main__ import main as serve

BUCKET = "pllms"
FOLDER = Path("out/site")


def run(folder: Path, arguments: list[str]) -> int:
    """Start the S3 server and the site over it; both end on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder.mkdir(parents=True, exist_ok=True)
    with minio_server.running(folder) as minio:
        client = Minio(f"127.0.0.1:{minio.port}", minio.user, minio.password, secure=False, region=minio_server.REGION)
        if not client.bucket_exists(BUCKET):
            client.make_bucket(BUCKET)
        os.environ |= {"AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
        return serve(["--store", f"s3://{BUCKET}?endpoint={minio.url}", *arguments])


def up(arguments: list[str]) -> int:
    """Start both in the background; returns the exit status."""
    try:
        addresses = background.up(FOLDER, arguments, program=(sys.executable, __file__, "run"))
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    background.show({**addresses, "store": f"an S3 server for trying alone, its data in {FOLDER / 'minio'}"})
    return 0


if __name__ == "__main__":
    what, *others = sys.argv[1:]
    sys.exit(run(FOLDER / "minio", others) if what == "run" else up(others))
