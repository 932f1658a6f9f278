"""Artifacts: files under the digest of their content, stored once, verified whenever they move."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from xpert.core.errors import ConflictError, FileFormatError, InputError, NotFoundError
from xpert.core.files import refuse_foreign, refuse_pickle, staged_folder
from xpert_services.store.attempts import attempts
from xpert_services.store.cards import Artifact, Card, new_name, read_card, write_card
from xpert_services.store.downloads import download
from xpert_services.store.keys import CARDS, check_digest, digest_of
from xpert_services.store.objects import ObjectStore, Source

Kind = Literal["adapter", "space", "exemplars", "probes", "answers", "entry"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# PEFT's folder as the project writes it; whatever else lies there (READMEs, checkpoints) is no part of the adapter.
FOLDER_SUFFIXES = (".safetensors", ".json")
# Names come with records, so from others: none may lead out of the folder or be that of a partial file.
PLAIN_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


class Artifacts:
    """The artifacts of a store.

    Parameters
    ----------
    objects
        Where they are.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, path: Path, *, kind: Kind) -> Artifact:
        """Store a file; where the store has its content already (of any kind), nothing is sent and its age starts again.

        After an interruption the same call goes on with the parts that arrived.

        Raises
        ------
        InputError
            ``kind`` is unknown.
        UnsafeFileError
            It is a pickle.
        StorageError
            It cannot be read or sent, or changed meanwhile.
        """
        if kind not in KINDS:
            raise InputError(f"{kind!r} is no kind of artifact; expected one of {', '.join(KINDS)}.")
        source = Source.read(path)
        refuse_pickle(source.path, source.part(0)[:4])
        mine: set[str] = set()
        for attempt in attempts():
            with attempt:
                try:
                    return self._publish(source, kind, mine).artifact
                except ConflictError:
                    self._drop_lost(source.digest, mine)
                    raise
        raise AssertionError("the last attempt raises")

    def put_folder(self, path: Path, *, kind: Kind = "adapter") -> dict[str, Artifact]:
        """Store the safetensors and JSON files of a folder (an adapter as PEFT writes it), by their names.

        Raises
        ------
        InputError
            The folder holds none.
        """
        files = sorted(file for file in Path(path).glob("*") if file.suffix in FOLDER_SUFFIXES and file.is_file())
        if not any(file.suffix == ".safetensors" for file in files):
            raise InputError(f"'{path}' holds no .safetensors file. Give the folder of an adapter as PEFT writes it.")
        return {file.name: self.put(file, kind=kind) for file in files}

    def stat(self, digest: str) -> Artifact:
        """Describe an artifact.

        Raises
        ------
        NotFoundError
            The store does not have it, or not yet whole.
        """
        return self._readable(digest)[0].artifact

    def list(self) -> Iterator[Artifact]:
        """List the artifacts that can be read."""
        for info in self._objects.scan(CARDS):
            found = read_card(self._objects, digest_of(info.key)[0])
            if found and found[0].readable:
                yield found[0].artifact

    def download(self, digest: str, path: Path) -> Path:
        """Bring an artifact to ``path``: verified, whole or not at all. What an interrupted call brought is used.

        Raises
        ------
        NotFoundError
            The store does not have it.
        FileFormatError
            What the store holds is not what was stored.
        StorageError
            The transfer was cut (call again to go on), or ``path`` cannot be written.
        """
        card, _ = self._readable(digest)
        return download(self._objects, card.blob, Path(path), digest=digest, size=card.size)

    def download_folder(self, files: Mapping[str, str], path: Path) -> Path:
        """Bring artifacts (name -> digest) into a folder, which then holds all of them or what it held before.

        What an interrupted call brought is used. One caller at a time may fill one folder.

        Raises
        ------
        InputError
            A name is not that of a plain file, or the folder holds something else than a model or an adapter.
        """
        path = Path(path)
        wrong = [name for name in files if not PLAIN_NAME.fullmatch(name)]
        if wrong:
            raise InputError(f"Not plain file names: {', '.join(map(repr, wrong))}. Give names without folders or dot in front.")
        refuse_foreign(path)
        partial = path.with_name(f".{path.name}.partial")
        brought = [self.download(digest, partial / name) for name, digest in files.items()]
        with staged_folder(path) as stage:
            for file in brought:
                file.rename(stage / file.name)
        shutil.rmtree(partial, ignore_errors=True)
        return path

    def check(self, digest: str, *, remove_damaged: bool = False) -> Artifact:
        """Read an artifact in the store and compare it with its digest.

        Parameters
        ----------
        digest
            Which.
        remove_damaged
            Give up damaged bytes, so that the file can be stored again.

        Raises
        ------
        NotFoundError
            The store does not have it.
        FileFormatError
            It was damaged.
        ConflictError
            A writer or a collector was first to remove the damage: check again.
        """
        card, etag = self._readable(digest)
        content = hashlib.sha256()
        for data in self._objects.read(card.blob):
            content.update(data)
        if content.hexdigest() == digest:
            return card.artifact
        if remove_damaged:
            write_card(self._objects, card.turned("dead"), etag)
            self._objects.delete(card.blob)
        raise FileFormatError(
            f"The artifact {digest} is damaged: its content has the digest {content.hexdigest()}. "
            + ("It was removed: store its file again." if remove_damaged else "Check with remove_damaged, store its file again.")
        )

    def protect(self, digests: Iterable[str]) -> None:
        """Start the age of artifacts again: the first step of a writer that will refer to them.

        Raises
        ------
        NotFoundError
            One of them is not in the store.
        """
        for digest in digests:
            self._keep(digest, touch=True)

    def confirm(self, digests: Iterable[str]) -> None:
        """Make sure that artifacts are still there: the last step of a writer that has just referred to them.

        Raises
        ------
        NotFoundError
            One was collected meanwhile.
        """
        for digest in digests:
            self._keep(digest, touch=False)

    def _keep(self, digest: str, *, touch: bool) -> None:
        for attempt in attempts():
            card, etag = self._readable(digest)
            if card.state == "live" and not touch:
                return
            with attempt:
                write_card(self._objects, card.turned("live"), etag)
                return

    def _publish(self, source: Source, kind: Kind, mine: set[str]) -> Card:
        """Announce, send, make live; a lost step raises ConflictError and is begun again by the caller."""
        found = read_card(self._objects, source.digest)
        card, etag = found if found else (None, None)
        if card and card.state == "dead":
            self._objects.delete(card.blob)
            card = None
        if card is None:
            card = Card(source.digest, kind, source.size, new_name(), "pending")
            etag = write_card(self._objects, card, etag)
        if not self._whole(card):
            if card.state != "pending":
                card = card.turned("pending")
                etag = write_card(self._objects, card, etag)
            mine.add(card.generation)
            self._objects.put_file(card.blob, source)
        write_card(self._objects, card.turned("live"), etag)
        return card

    def _whole(self, card: Card) -> bool:
        try:
            return self._objects.stat(card.blob).size == card.size
        except NotFoundError:
            return False

    def _drop_lost(self, digest: str, mine: set[str]) -> None:
        """Remove what this writer sent under generations that the collector has given up meanwhile."""
        found = read_card(self._objects, digest)
        for generation in mine.copy():
            if found and found[0].generation != generation:
                self._objects.delete(Card(digest, "", 0, generation, "dead").blob)
                mine.discard(generation)

    def _readable(self, digest: str) -> tuple[Card, str]:
        found = read_card(self._objects, check_digest(digest))
        if found is None or not found[0].readable:
            raise NotFoundError(f"The artifact {digest} is not in the store. Check the digest, or store its file.")
        return found
