"""Addresses of the bucket itself, so that files need not pass through the server."""

from __future__ import annotations

import base64
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from xpert.core.errors import FileFormatError, InputError, NotFoundError, TooLargeError, UnavailableError, UnsafeFileError
from xpert.wire import ArtifactUpload, UploadDraft
from xpert_services.registry.intake import Intake
from xpert_services.store import S3Objects, Store
from xpert_services.store.cards import read_card
from xpert_services.store.downloads import download
from xpert_services.store.keys import staging_key


class Direct:
    """Signs requests that clients send to the bucket, and takes in what they put there.

    Parameters
    ----------
    store
        In a bucket.
    intake
        What looks at a file before it becomes an artifact.
    url
        Address by which clients reach the bucket.
    lifetime_s
        How long an address can be used.

    Raises
    ------
    InputError
        The store is in a folder, or the address is none.
    """

    def __init__(self, store: Store, intake: Intake, url: str, *, lifetime_s: int) -> None:
        if not isinstance(store.objects, S3Objects):
            raise InputError("Clients can reach a bucket by themselves, not a folder. Leave 'direct' out, or use an s3:// store.")
        self._store, self._intake, self._lifetime_s = store, intake, lifetime_s
        self._outside = store.objects.at(url)

    def download(self, digest: str, *, method: str) -> str | None:
        """Return an address of an artifact's bytes; None for style spaces, which the explorer reads from the server's origin.

        Raises
        ------
        NotFoundError
            The store does not have it.
        """
        found = read_card(self._store.objects, digest)
        if found is None or not found[0].readable:
            raise NotFoundError(f"The artifact {digest} is not in the store.")
        if found[0].kind == "space":
            return None
        return self._outside.address(method, found[0].blob, headers={}, lifetime_s=self._lifetime_s)

    def ask(self, draft: UploadDraft, owner: str) -> ArtifactUpload:
        """Say where to put a file; where it was put, look at it and store it.

        The bucket refuses another size, other bytes and a second file at that place: all three are signed.

        Raises
        ------
        FileFormatError, UnsafeFileError, TooLargeError
            What was put there has no place in the store; it was removed.
        """
        key = staging_key(draft.digest, owner)
        if self._take_staged(key, draft):
            return ArtifactUpload(digest=draft.digest, present=True)
        checksum = base64.b64encode(bytes.fromhex(draft.digest)).decode()
        signed = {"content-length": str(draft.size), "if-none-match": "*", "x-amz-checksum-sha256": checksum}
        url = self._outside.address("PUT", key, headers=signed, lifetime_s=self._lifetime_s)
        # The length is what HTTP says by itself.
        headers = {name: value for name, value in signed.items() if name != "content-length"}
        return ArtifactUpload(
            digest=draft.digest,
            present=False,
            url=url,
            headers={"content-type": "application/octet-stream", **headers},
            expires=datetime.now(UTC) + timedelta(seconds=self._lifetime_s),
            confirm=True,
        )

    def _take_staged(self, key: str, draft: UploadDraft) -> bool:
        objects = self._store.objects
        try:
            objects.stat(key)
        except NotFoundError:
            return False
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "upload"
            try:
                download(objects, key, path, digest=draft.digest, size=draft.size)
                self._intake.take(path, digest=draft.digest, size=draft.size, kind=draft.kind)
            except NotFoundError as error:
                raise UnavailableError("The same file is being looked at for another request. Ask again.") from error
            except (FileFormatError, UnsafeFileError, TooLargeError):
                objects.delete(key)
                raise
        objects.delete(key)
        return True
