"""What is sent is looked at before it becomes an artifact: its digest, its size, and that it can run no code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xpert.core.errors import FileFormatError, TooLargeError
from xpert.core.exemplars import load_exemplars
from xpert.core.files import refuse_pickle
from xpert.models.digest import tensor_digests
from xpert.wire.bodies import UploadKind
from xpert_services.registry.pllms import CONFIG_BYTES
from xpert_services.store import Store

EXEMPLAR_BYTES = 8 * 2**20


class Intake:
    """The one way from a file that someone sent to an artifact.

    Parameters
    ----------
    store
        Where artifacts are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, path: Path, *, digest: str, size: int, kind: UploadKind) -> None:
        """Store a file, if it is what was announced and safetensors, a JSON object or exemplars by its content.

        Raises
        ------
        FileFormatError
            It is something else.
        UnsafeFileError
            It is a pickle.
        TooLargeError
            Exemplars, or a configuration, are larger than allowed.
        """
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            head = stream.read(9)
        there = path.stat().st_size
        if (there, found) != (size, digest):
            raise FileFormatError(
                f"{there} bytes of digest {found[:12]} came, expected {size} of {digest[:12]}. Send the file again."
            )
        refuse_pickle(Path("the upload"), head)
        if kind == "exemplars":
            _check_exemplars(path)
        elif head[8:] == b"{" and int.from_bytes(head[:8], "little") <= there - 8:
            tensor_digests(path)
        elif not _is_object(path):
            told = "The upload is neither safetensors nor a JSON object. Send an adapter's or a space's files, or exemplars."
            raise FileFormatError(told)
        self._store.artifacts.put(path, kind=kind)


def _check_exemplars(path: Path) -> None:
    size = path.stat().st_size
    if size > EXEMPLAR_BYTES:
        raise TooLargeError(f"Exemplars have at most {EXEMPLAR_BYTES} bytes, these {size}. Leave some out.")
    try:
        load_exemplars(path)
    except FileFormatError as error:
        raise FileFormatError(str(error).replace(str(path), "the upload")) from error


def _is_object(path: Path) -> bool:
    try:
        return path.stat().st_size <= CONFIG_BYTES and isinstance(json.loads(path.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False
