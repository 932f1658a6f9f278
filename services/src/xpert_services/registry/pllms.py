"""pLLMs: adapters of a base under a name, with what was found out about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from xpert.core.errors import ConflictError, InputError, NotFoundError, TooLargeError, UnsafeFileError
from xpert.models.adapters import CONFIG, WEIGHTS
from xpert.wire import ExplanationBody, MergeSource, Page, Pllm, PllmDraft, SampleAnswer
from xpert_services.listing import records_after
from xpert_services.registry.bases import COLLECTION as BASES
from xpert_services.registry.bases import Bases
from xpert_services.registry.samples import KeptAnswers, page_of, read_samples
from xpert_services.store import Draft, Record, Store
from xpert_services.store.cards import new_name
from xpert_services.store.keys import record_key

FILE, ENTRY, ANSWERS = "file/", "entry/", "answers/"
PROBES, BASE_ANSWERS = "probes", "base-answers"
SUFFIXES = (".safetensors", ".json")
CONFIG_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What an explanation found out about a pLLM.

    Attributes
    ----------
    adapter_digest
        Of the adapter that was explained.
    body
        The explanation.
    entry
        Digest of the entry's artifact.
    answers
        Key of the answers to the probes -> digest of their artifact.
    probes, base_answers
        Digests of the probes' artifact and of the base's answers to them.
    """

    adapter_digest: str
    body: ExplanationBody
    entry: str
    answers: Mapping[str, str] = field(default_factory=dict)
    probes: str | None = None
    base_answers: str | None = None


def check_files(store: Store, files: Mapping[str, str], *, most_bytes: int) -> int:
    """Check an adapter's files without reading them; returns the size of the weights.

    Raises
    ------
    InputError
        One is missing, or needs not be there.
    UnsafeFileError
        One is of a kind that could run code.
    NotFoundError
        One was not uploaded.
    TooLargeError
        One is larger than allowed.
    """
    foreign = sorted(name for name in files if not name.endswith(SUFFIXES))
    if foreign:
        raise UnsafeFileError(f"Only .safetensors and .json files are taken, found {', '.join(foreign)}. Leave them out.")
    missing = sorted({WEIGHTS, CONFIG} - set(files))
    if missing:
        raise InputError(f"An adapter in PEFT's format needs {WEIGHTS} and {CONFIG}, missing: {', '.join(missing)}.")
    sizes = {name: store.artifacts.stat(digest).size for name, digest in files.items()}
    for name, size in sizes.items():
        most = most_bytes if name.endswith(".safetensors") else CONFIG_BYTES
        if size > most:
            raise TooLargeError(f"'{name}' has {size} bytes, at most {most} are taken.")
    return sizes[WEIGHTS]


class Pllms:
    """The pLLMs of a store, a collection for each base.

    Parameters
    ----------
    store
        Where they are.
    bases
        The bases that they belong to.
    most_bytes
        Largest weights that are taken.
    """

    def __init__(self, store: Store, bases: Bases, *, most_bytes: int) -> None:
        self._store, self._bases, self._most_bytes = store, bases, most_bytes

    def register(self, draft: PllmDraft, *, merged_from: Sequence[MergeSource] = (), origin: str = "") -> tuple[Pllm, str, bool]:
        """Register an adapter; returns the pLLM, the name of this registration, and whether it is new.

        Parameters
        ----------
        draft
            Name, base and files.
        merged_from, origin
            For a merge: its sources, and the job that made it.

        Raises
        ------
        ConflictError
            Another adapter has the name.
        InputError, UnsafeFileError, NotFoundError, TooLargeError
            As for `check_files`; NotFoundError also where there is no such base.
        """
        registration = new_name()
        pllm = self._described(draft, merged_from)
        value = {**pllm.model_dump(mode="json"), "registration": registration, "origin": origin, "explanations": {}}
        files = {f"{FILE}{name}": digest for name, digest in draft.files.items()}
        try:
            self._store.records.create(_collection(draft.base), draft.name, Draft(value, files))
        except ConflictError:
            record = self._record(draft.base, draft.name)
            if record.value["files"] != pllm.files:
                raise ConflictError(
                    f"'{draft.name}' of '{draft.base}' is another adapter already. Remove it first, or take another name."
                ) from None
            return _body(record, None), str(record.value["registration"]), False
        return pllm, registration, True

    def get(self, base: str, name: str, *, space: str | None = None) -> Pllm:
        """Describe a pLLM, with its explanation in a style space.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return _body(self._record(base, name), space)

    def registration(self, base: str, name: str) -> str:
        """Return the name of the registration: another one after the pLLM was removed and registered anew."""
        return str(self._record(base, name).value["registration"])

    def origin(self, base: str, name: str) -> str:
        """Return the job that made a pLLM; empty where it was uploaded."""
        return str(self._record(base, name).value["origin"])

    def page(
        self,
        *,
        base: str | None,
        after: str | None,
        limit: int,
        space: str | None = None,
        keep: Callable[[Pllm], bool] = lambda _: True,
    ) -> Page[Pllm]:
        """List pLLMs, of one base or of all; pages are continued after ``BASE/NAME``."""
        if base is not None:
            self._bases.get(base)
        last_base, mark, last_name = (after or "").partition("/")
        if after and not (last_base and mark and last_name):
            raise InputError(f"{after!r} is no pLLM to go on after: expected BASE/NAME, as 'next' of the page before says.")
        items: list[Pllm] = []
        for each in [base] if base is not None else self._bases.names():
            if after and record_key(BASES, each) < record_key(BASES, last_base):
                continue
            for record in records_after(self._store, _collection(each), last_name if each == last_base else None):
                pllm = _body(record, space)
                if not keep(pllm):
                    continue
                if len(items) == limit:
                    return Page[Pllm](items=items, next=f"{items[-1].base}/{items[-1].name}")
                items.append(pllm)
        return Page[Pllm](items=items)

    def entries(self, base: str, space: str) -> Iterator[tuple[str, str]]:
        """List name and digest of the entry of every pLLM of a base that is explained in a space and published."""
        for record in self._store.records.list(_collection(base)):
            entry = record.artifacts.get(f"{ENTRY}{space}")
            if entry and record.value["quarantined"] is None and record.value.get("published", True):
                yield record.name, entry

    def answers(self, base: str, name: str) -> dict[str, str]:
        """Return the stored answers of a pLLM: key -> digest."""
        found = self._record(base, name).artifacts
        return {role.removeprefix(ANSWERS): digest for role, digest in found.items() if role.startswith(ANSWERS)}

    def samples(self, base: str, name: str, *, after: str | None, limit: int) -> Page[SampleAnswer]:
        """List what base and pLLM answered to the same probes; pages are continued after a number.

        Raises
        ------
        NotFoundError
            There is no such pLLM, or it is not explained yet.
        InputError
            ``after`` is no number.
        """
        record = self._record(base, name)
        own = next((digest for role, digest in record.artifacts.items() if role.startswith(ANSWERS)), None)
        if record.value["quarantined"]:
            raise NotFoundError(f"The pLLM '{name}' of '{base}' was refused: {record.value['quarantined']}")
        if own is None or PROBES not in record.artifacts:
            raise NotFoundError(f"The pLLM '{name}' of '{base}' is not explained yet. Wait for its job, then ask again.")
        kept = KeptAnswers(record.artifacts[PROBES], record.artifacts[BASE_ANSWERS], own)
        return page_of(read_samples(self._store, kept), after=after, limit=limit)

    def remove(self, base: str, name: str) -> None:
        """Remove a pLLM; its files go when nothing else refers to them.

        Raises
        ------
        NotFoundError
            There is none.
        """
        self._store.records.remove(self._record(base, name))

    def set_published(self, base: str, name: str, *, is_published: bool) -> Pllm:
        """Note whether a pLLM stands in the catalogue.

        Raises
        ------
        NotFoundError
            There is none.
        """
        registration = self.registration(base, name)
        change = {"published": is_published}
        return self._change(base, name, registration, lambda record: Draft({**record.value, **change}, record.artifacts))

    def set_job(self, base: str, name: str, registration: str, job: str) -> Pllm:
        """Note which job explains a pLLM."""
        return self._change(base, name, registration, lambda record: Draft({**record.value, "job": job}, record.artifacts))

    def set_explained(self, base: str, name: str, registration: str, explained: Explained) -> Pllm:
        """Note an explanation.

        Raises
        ------
        NotFoundError
            The pLLM was removed, or registered anew, meanwhile.
        """

        def change(record: Record) -> Draft:
            body = explained.body.model_dump(mode="json")
            value = {
                **record.value,
                "adapter_digest": explained.adapter_digest,
                "explanations": {**record.value["explanations"], explained.body.space: body},
                "quarantined": None,
            }
            kept = {role: digest for role, digest in record.artifacts.items() if not role.startswith(ANSWERS)}
            answers = {f"{ANSWERS}{key}": digest for key, digest in explained.answers.items()}
            if explained.probes and explained.base_answers:
                answers |= {PROBES: explained.probes, BASE_ANSWERS: explained.base_answers}
            return Draft(value, {**kept, f"{ENTRY}{explained.body.space}": explained.entry, **answers})

        return self._change(base, name, registration, change)

    def set_quarantined(self, base: str, name: str, registration: str, reason: str) -> Pllm:
        """Take a pLLM out of use.

        Raises
        ------
        NotFoundError
            The pLLM was removed, or registered anew, meanwhile.
        """

        def change(record: Record) -> Draft:
            files = {role: digest for role, digest in record.artifacts.items() if role.startswith(FILE)}
            return Draft({**record.value, "quarantined": reason, "explanations": {}}, files)

        return self._change(base, name, registration, change)

    def _described(self, draft: PllmDraft, merged_from: Sequence[MergeSource]) -> Pllm:
        base = self._bases.get(draft.base)
        return Pllm(
            name=draft.name,
            base=draft.base,
            base_digest=base.digest,
            adapter_digest="",
            adapter_bytes=check_files(self._store, draft.files, most_bytes=self._most_bytes),
            files=dict(draft.files),
            created=datetime.fromtimestamp(self._store.objects.now(), UTC),
            merged_from=list(merged_from),
            published=draft.publish,
        )

    def _record(self, base: str, name: str) -> Record:
        try:
            return self._store.records.get(_collection(base), name)
        except NotFoundError:
            raise NotFoundError(f"There is no pLLM '{name}' of '{base}'. Check both names.") from None

    def _change(self, base: str, name: str, registration: str, change: Callable[[Record], Draft]) -> Pllm:
        def decide(record: Record | None) -> Draft:
            if record is None or record.value["registration"] != registration:
                raise NotFoundError(f"The pLLM '{name}' of '{base}' was removed, or registered anew. Ask again.")
            return change(record)

        return _body(self._store.records.update(_collection(base), name, decide), None)


def _collection(base: str) -> str:
    return f"pllms.{base}"


def _body(record: Record, space: str | None) -> Pllm:
    explanations: Mapping[str, Any] = record.value["explanations"]
    shown = explanations.get(space) if space else next(iter(explanations.values()), None)
    return Pllm.model_validate({**record.value, "explanation": shown})
