"""The store: artifacts under their digests and the records that refer to them, in a local folder or an S3 bucket.

    store = open_store("out/store")
    adapter = store.artifacts.put_folder(Path("my-adapter"))
    files = {name: artifact.digest for name, artifact in adapter.items()}
    store.records.create("pllms", "concise", Draft({"base": "starter:base"}, files))

The layout and the protocols are in docs/adr/0005-store.md.
"""

from xpert_services.store.artifacts import Artifacts
from xpert_services.store.cards import Artifact
from xpert_services.store.copying import Copied
from xpert_services.store.folder import FolderObjects
from xpert_services.store.garbage import Collected, Retention
from xpert_services.store.objects import ObjectStore
from xpert_services.store.opening import Store, open_store
from xpert_services.store.records import Draft, Record, Records
from xpert_services.store.s3 import Endpoint, S3Objects

__all__ = [
    "Artifact",
    "Artifacts",
    "Collected",
    "Copied",
    "Draft",
    "Endpoint",
    "FolderObjects",
    "ObjectStore",
    "Record",
    "Records",
    "Retention",
    "S3Objects",
    "Store",
    "open_store",
]
