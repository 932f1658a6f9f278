"""The handler of jobs that explain: many pLLMs of one base in one mixed batch."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xpert.core.errors import ConflictError, FileFormatError, MismatchError, NotFoundError, StorageError, XpertError
from xpert.core.explanation import Explanation
from xpert.models.adapters import WEIGHTS
from xpert.models.base import BaseModel
from xpert.models.explaining import explain_answers
from xpert.models.probing import GenerationSettings, answer_probes, answers_key
from xpert.wire import ExplanationBody, WordBody
from xpert_services import tracing
from xpert_services.catalogue import Catalogues
from xpert_services.explainer.asking import Asking, asking_in, check_asking
from xpert_services.explainer.models import Models
from xpert_services.jobs import Lease, Stopped, progress_of
from xpert_services.metering import CACHE, PROBE_SECONDS, PROBE_TOKENS
from xpert_services.registry import Explained, Pllms, Quarantine, Spaces
from xpert_services.registry.samples import put_probes
from xpert_services.store import Draft, Store

ANSWERS = "answers"
BASE = ""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wanted:
    """One registration of a pLLM, brought here."""

    base: str
    name: str
    registration: str
    files: dict[str, str]
    folder: Path


class Explainer:
    """Explains pLLMs.

    Parameters
    ----------
    store
        Where artifacts are.
    models
        Loaded models.
    spaces, pllms, quarantine
        What is registered.
    catalogues
        Told about what changed.
    asking
        How explanations are made.
    cache
        Folder where answers are kept while they are made, so that an interrupted job goes on.
    """

    def __init__(
        self,
        store: Store,
        models: Models,
        *,
        spaces: Spaces,
        pllms: Pllms,
        quarantine: Quarantine,
        catalogues: Catalogues,
        asking: Asking,
        cache: Path,
    ) -> None:
        self._store, self._models = store, models
        self._spaces, self._pllms, self._quarantine, self._catalogues = spaces, pllms, quarantine, catalogues
        self._asking, self._cache = asking, Path(cache)
        self._settings = GenerationSettings(max_new_tokens=asking.max_new_tokens)

    def __call__(self, leases: Sequence[Lease]) -> None:
        """Do jobs of one base, space and way of asking."""
        inputs = leases[0].job.inputs
        asking = asking_in(inputs["space"], self._spaces, self._asking)
        check_asking(inputs["asking"], asking)
        base = self._models.base(inputs["base"], inputs["base_digest"])
        refused: dict[str, XpertError] = {}
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            wanted = {
                each.registration: each
                for number, lease in enumerate(leases)
                for each in self._fetch(base, lease, Path(folder) / str(number), refused)
            }
            made = self._explain(base, wanted, leases, asking.asked) if wanted else {}
            held = [lease for lease in leases if _is_held(lease)]
            results = {lease.id: self._keep(lease, wanted, made, refused) for lease in held}
        self._catalogues.refresh(inputs["base"], inputs["space"])
        for lease in held:
            _end(lease, results[lease.id], refused)

    def _fetch(self, base: BaseModel, lease: Lease, folder: Path, refused: dict[str, XpertError]) -> Iterator[_Wanted]:
        """Bring and check the adapters of a job; what is wrong with one concerns that one alone."""
        for name, registration in lease.job.inputs["pllms"].items():
            where = lease.job.inputs["base"]
            try:
                pllm = self._pllms.get(where, name)
                if self._pllms.registration(where, name) != registration:
                    raise NotFoundError(f"The pLLM '{name}' of '{where}' was registered anew. Ask again.")
                self._models.fetch(dict(pllm.files), folder / name)
            except NotFoundError as error:
                refused[registration] = error
                continue
            wanted = _Wanted(where, name, registration, dict(pllm.files), folder / name)
            problem = find_problem(base, wanted.folder, name)
            if problem is None:
                yield wanted
            else:
                refused[registration] = problem
                self._refuse(wanted, problem)

    def _refuse(self, wanted: _Wanted, problem: XpertError) -> None:
        log.warning("Quarantined %s/%s: %s", wanted.base, wanted.name, problem)
        self._quarantine.add(wanted.files[WEIGHTS], str(problem))
        try:
            self._pllms.set_quarantined(wanted.base, wanted.name, wanted.registration, str(problem))
        except NotFoundError:
            return  # removed meanwhile

    def _explain(
        self, base: BaseModel, wanted: dict[str, _Wanted], leases: Sequence[Lease], asked: Sequence[str]
    ) -> dict[str, Explained]:
        space = self._spaces.load(leases[0].job.inputs["space"])
        keys = self._bring_answers(base, wanted, asked)
        missing = [name for name, key in keys.items() if not (self._cache / f"{key}.json").exists()]
        begun = time.monotonic()
        loaded = {registration: base.adapter(each.folder) for registration, each in wanted.items()}
        with tracing.part("probing", **{"xpert.pllms": len(loaded), "xpert.probes": len(asked)}):
            texts = answer_probes(
                base,
                loaded,
                asked,
                settings=self._settings,
                cache=self._cache,
                progress=progress_of(leases),
            )
        with tracing.part("decomposition", **{"xpert.pllms": len(loaded)}):
            explanations = explain_answers(base, loaded, texts, space=space, encoder=self._models.encoder)
        _count(base, [text for name in missing for text in texts[name]], time.monotonic() - begun)
        answers = self._keep_answers(keys)
        probes = put_probes(self._store, asked)
        return {
            found.name: Explained(
                adapter_digest=found.adapter_digest,
                body=_body(found),
                entry=self._put_entry(replace(found, name=wanted[found.name].name)),
                answers={keys[found.name]: answers[found.name]},
                probes=probes,
                base_answers=answers[BASE],
            )
            for found in explanations
        }

    def _bring_answers(self, base: BaseModel, wanted: dict[str, _Wanted], asked: Sequence[str]) -> dict[str, str]:
        """Bring stored answers into the cache; returns the keys of all, the base's own under ``""``."""
        adapters = {BASE: None, **{name: base.adapter(each.folder) for name, each in wanted.items()}}
        keys = {name: answers_key(base, adapter, asked, settings=self._settings) for name, adapter in adapters.items()}
        for name, key in keys.items():
            if name == BASE:
                found = self._base_answers(key)
            else:
                found = self._pllms.answers(wanted[name].base, wanted[name].name).get(key)
            if found and not (self._cache / f"{key}.json").exists():
                try:
                    self._store.artifacts.download(found, self._cache / f"{key}.json")
                except (NotFoundError, FileFormatError) as error:
                    log.warning("Answers are made again: %s", error)
            CACHE.record(cache="answers", outcome="hit" if (self._cache / f"{key}.json").exists() else "miss")
        return keys

    def _keep_answers(self, keys: dict[str, str]) -> dict[str, str]:
        """Store the answers; returns their digests."""
        found = {
            name: self._store.artifacts.put(self._cache / f"{key}.json", kind="answers").digest for name, key in keys.items()
        }
        if self._base_answers(keys[BASE]) != found[BASE]:
            self._store.records.update(ANSWERS, keys[BASE], lambda _: Draft({}, {ANSWERS: found[BASE]}))
        return found

    def _base_answers(self, key: str) -> str | None:
        try:
            return self._store.records.get(ANSWERS, key).artifacts.get(ANSWERS)
        except NotFoundError:
            return None

    def _put_entry(self, explanation: Explanation) -> str:
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "entry.json"
            explanation.save(path)
            return self._store.artifacts.put(path, kind="entry").digest

    def _keep(
        self, lease: Lease, wanted: dict[str, _Wanted], made: dict[str, Explained], refused: dict[str, XpertError]
    ) -> dict[str, str]:
        """Note what was found out with the pLLMs; returns the job's result."""
        result = {}
        for name, registration in lease.job.inputs["pllms"].items():
            if registration in refused:
                continue
            each = wanted[registration]
            try:
                self._pllms.set_explained(each.base, name, registration, made[registration])
            except NotFoundError as error:
                refused[registration] = error
                continue
            self._quarantine.lift(each.files[WEIGHTS])
            result[name] = made[registration].entry
        return result


def find_problem(base: BaseModel, folder: Path, name: str) -> XpertError | None:
    """Return what is wrong with an adapter that someone sent: its format, its numbers, its shapes, its base."""
    try:
        base.adapter(folder)
    except StorageError:
        raise
    except XpertError as error:
        # The message names the place where it was unpacked, which tells nobody anything.
        return type(error)(str(error).replace(str(folder), name))
    except Exception as error:
        return FileFormatError(f"'{name}' cannot be read as an adapter ({type(error).__name__}). Train or fetch it again.")
    return None


def _count(base: BaseModel, texts: Sequence[str], seconds: float) -> None:
    """Count what was generated, and how long it took; a rate of one by the other is tokens a second of work."""
    if texts:
        PROBE_TOKENS.record(max(1, sum(len(ids) for ids in base.tokenizer(texts).input_ids)))
        PROBE_SECONDS.record(seconds)


def _is_held(lease: Lease) -> bool:
    """Renew a lease; tells whether it is still held, so that what follows is done by one worker alone."""
    try:
        lease.renew()
    except Stopped:
        return False
    return True


def _end(lease: Lease, result: dict[str, str], refused: dict[str, XpertError]) -> None:
    problems = {name: refused[each] for name, each in lease.job.inputs["pllms"].items() if each in refused}
    try:
        if not problems:
            lease.succeed(result)
        elif len(problems) == 1:
            lease.fail(next(iter(problems.values())), result=result)
        else:
            told = "; ".join(f"{name}: {error}" for name, error in list(problems.items())[:6])
            lease.fail(MismatchError(f"{len(problems)} pLLMs were refused: {told}"), result=result)
    except ConflictError as lost:
        log.warning("%s", lost)


def _body(found: Explanation) -> ExplanationBody:
    words = [WordBody(**asdict(word)) for word in found.top(len(found.words))]
    return ExplanationBody(
        space=found.space_digest,
        words=words,
        strength=found.strength,
        residual_share=found.residual_share,
        n_probes=found.n_probes,
    )
