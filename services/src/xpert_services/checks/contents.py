"""The lowest level: every record can be read, every artifact is whole, and what a record refers to is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from xpert.core.errors import FileFormatError, NotFoundError
from xpert_services.checks.problems import Problem
from xpert_services.store import Record, Store
from xpert_services.store.cards import read_card
from xpert_services.store.keys import BLOBS, CARDS, RECORDS, decode, digest_of

Records = Mapping[str, Mapping[str, Record]]
"""Collection -> name -> record."""


@dataclass
class Found:
    """What a store holds: readable artifacts, and how many bytes belong to none."""

    artifacts: set[str] = field(default_factory=set)
    n_bytes: int = 0
    n_unfinished: int = 0
    n_orphans: int = 0


def read_records(store: Store, problems: list[Problem]) -> Records:
    """Read every record."""
    found: dict[str, dict[str, Record]] = {}
    for info in store.objects.scan(RECORDS):
        collection, _, name = info.key.removeprefix(RECORDS).removesuffix(".json").partition("/")
        try:
            record = store.records.get(decode(collection), decode(name))
        except NotFoundError:
            continue  # removed: its small object stays
        except FileFormatError as error:
            problems.append(Problem("record-unreadable", info.key, str(error)))
            continue
        found.setdefault(record.collection, {})[record.name] = record
    return found


def read_artifacts(store: Store, problems: list[Problem]) -> Found:
    """Read every artifact and compare it with its digest."""
    found, generations = Found(), dict[str, str]()
    for info in store.objects.scan(CARDS):
        digest, _ = digest_of(info.key)
        try:
            card = read_card(store.objects, digest)
            if card is None:
                continue
            generations[digest] = card[0].generation
            found.n_unfinished += card[0].state == "pending"
            if card[0].readable:
                found.n_bytes += store.artifacts.check(digest).size
                found.artifacts.add(digest)
        except NotFoundError as error:
            problems.append(Problem("artifact-missing", digest, str(error)))
        except FileFormatError as error:
            problems.append(Problem("artifact-damaged", digest, str(error)))
    for info in store.objects.scan(BLOBS):
        digest, generation = digest_of(info.key)
        found.n_orphans += generations.get(digest) != generation
    return found


def check_references(records: Records, found: Found) -> Iterator[Problem]:
    """Find what records refer to and the store does not have."""
    for collection, named in records.items():
        for name, record in named.items():
            for role, digest in record.artifacts.items():
                if digest not in found.artifacts:
                    told = (
                        f"Its '{role}' is the artifact {digest}, which is not there whole. Store it again, or remove the record."
                    )
                    yield Problem("reference-broken", f"{collection}/{name}", told)
