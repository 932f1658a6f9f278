"""What the fake server knows, and what it makes up."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from xpert.core.catalogue import Catalogue, read_compact
from xpert.core.cutting import Cells, cut
from xpert.core.data import probes
from xpert.core.delta import export_delta
from xpert.core.errors import ConflictError, FileFormatError, InputError, MismatchError, NotFoundError, XpertError
from xpert.core.exemplars import Exemplars, load_exemplars
from xpert.core.explanation import Explanation
from xpert.core.files import ADAPTER_FILES, read_safetensors, sha256_hex, write_safetensors
from xpert.core.space import NEUTRAL, StyleSpace
from xpert.wire import (
    AuditEntry,
    Base,
    BaseDraft,
    CatalogueInfo,
    ExplanationBody,
    Job,
    MergeSource,
    Pllm,
    PllmChange,
    PllmDraft,
    SampleAnswer,
    Space,
    SpaceDraft,
    Token,
    TokenDraft,
    WordBody,
)

CONFIG, WEIGHTS = ADAPTER_FILES


class State:
    """Bases, spaces, pLLMs, jobs and the store's bytes.

    Parameters
    ----------
    job_steps
        So often a job is looked at before it has ended.
    cell_capacity
        pLLMs a cell holds; None: as many as fit.
    """

    def __init__(self, *, job_steps: int, cell_capacity: int | None = None) -> None:
        self.job_steps, self.cell_capacity = job_steps, cell_capacity
        self._versions: dict[str, dict[str, Explanation]] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.bases: dict[str, Base] = {}
        self.spaces: dict[str, Space] = {}
        self.pllms: dict[tuple[str, str], Pllm] = {}
        self.jobs: dict[str, Job] = {}
        self.tokens: dict[str, Token] = {}
        self.audit: list[AuditEntry] = []
        self._results: dict[str, dict[str, str]] = {}
        self.words: dict[tuple[str, str], Mapping[str, float]] = {}
        self.style = default_space()
        self.add_space(self.put(_dump(self.style)))

    def put(self, data: bytes) -> str:
        """Keep bytes and return their digest."""
        digest = sha256_hex(data)
        self.blobs[digest] = data
        return digest

    def add_base(self, draft: BaseDraft) -> Base:
        """Register a base."""
        found = self.bases.get(draft.name)
        if found and found.source != draft.source:
            raise ConflictError(f"The base '{draft.name}' is '{found.source}' already. Take another name.")
        base = found or Base(name=draft.name, source=draft.source, digest=sha256_hex(draft.source.encode()), created=now())
        self.bases[draft.name] = base
        return base

    def add_space(self, artifact: str) -> Space:
        """Register a style space whose file was uploaded."""
        space = load_space(self.blob(artifact))
        return self.spaces.setdefault(space.digest, Space.of(space, artifact=artifact, created=now()))

    def build_space(self, draft: SpaceDraft) -> Job:
        """Make up a style space whose words are those of the exemplars; what is wrong with them fails the job."""
        if draft.encoder not in (None, self.style.encoder):
            has = self.style.encoder
            raise MismatchError(
                f"The style space wants the sentence encoder '{draft.encoder}', this server has '{has}'. Ask for that."
            )
        subject, digest = f"{draft.name}, version {draft.version}", str(draft.exemplars)
        try:
            words = {text.style for text in load_space_exemplars(self.blob(digest)).texts} - {NEUTRAL}
            if not words:
                raise InputError("Cannot build a style space: there is no style beside neutral.")
        except (FileFormatError, InputError) as error:
            job = self.add_job("space", subject, {"exemplars": digest})
            failed = {"state": "failed", "error": str(error), "code": error.code, "result": {}}
            self.jobs[job.id] = job.model_copy(update=failed)
            return self.jobs[job.id]
        style = self.style
        rows = np.random.default_rng(int(digest[:12], 16)).normal(size=(len(words), style.axes.shape[1])).astype(np.float32)
        made = replace(style, name=str(draft.name), version=draft.version, words=tuple(sorted(words)), axes=rows)
        space = self.add_space(self.put(_dump(made)))
        return self.add_job("space", subject, {"space": space.digest})

    def blob(self, digest: str) -> bytes:
        """Return an artifact's bytes."""
        if digest not in self.blobs:
            raise NotFoundError(f"There is no artifact {digest[:12]}. Upload it first.")
        return self.blobs[digest]

    def base(self, name: str) -> Base:
        """Return a base."""
        if name not in self.bases:
            raise NotFoundError(f"There is no base '{name}' here. Register it first.")
        return self.bases[name]

    def pllm(self, base: str, name: str) -> Pllm:
        """Return a pLLM."""
        if (base, name) not in self.pllms:
            raise NotFoundError(f"There is no pLLM '{name}' of '{base}'. Check both names.")
        return self.pllms[base, name]

    def answers(self, base: str, name: str) -> list[SampleAnswer]:
        """Make up what a pLLM answered to the probes."""
        if self.pllm(base, name).explanation is None:
            raise NotFoundError(f"The pLLM '{name}' of '{base}' is not explained yet. Wait for its job.")
        return [SampleAnswer(prompt=probe, base="A plain answer.", pllm=f"An answer of {name}.") for probe in probes()[:40]]

    def add_pllm(self, draft: PllmDraft, *, merged_from: list[MergeSource] | None = None) -> Pllm:
        """Register an adapter and explain it."""
        base = self.base(draft.base)
        missing = {WEIGHTS, CONFIG} - set(draft.files)
        if missing:
            raise InputError(f"An adapter needs {WEIGHTS} and {CONFIG}, missing: {', '.join(sorted(missing))}.")
        weights = [self.blob(digest) for name, digest in sorted(draft.files.items()) if name == WEIGHTS]
        found = self.pllms.get((draft.base, draft.name))
        if found:
            if found.files != draft.files:
                raise ConflictError(f"'{draft.name}' of '{draft.base}' is another adapter already. Take another name.")
            return found
        pllm = Pllm(
            name=draft.name,
            base=draft.base,
            base_digest=base.digest,
            adapter_digest=sha256_hex(json.dumps(sorted(draft.files.items())).encode()),
            adapter_bytes=len(weights[0]),
            files=dict(draft.files),
            created=now(),
            quarantined=_fault(weights[0]),
            merged_from=merged_from or [],
            published=draft.publish,
        )
        self.pllms[draft.base, draft.name] = pllm
        job = self.add_job("explain", f"{draft.base}/{draft.name}", {draft.name: _made(draft)})
        return self._explained(draft.base, draft.name, job.id)

    def change(self, base: str, name: str, change: PllmChange) -> Pllm:
        """Put a pLLM into the catalogue, or take it out."""
        self.pllms[base, name] = self.pllm(base, name).model_copy(update={"published": change.publish})
        return self.pllms[base, name]

    def _explained(self, base: str, name: str, job: str) -> Pllm:
        pllm = self.pllm(base, name)
        body = None if pllm.quarantined else _body(self.entry(pllm))
        found = pllm.model_copy(update={"job": job, "explanation": body})
        self.pllms[base, name] = found
        return found

    def add_job(self, kind: str, subject: str, result: Mapping[str, str]) -> Job:
        """Record a job that ends after so many looks; the same asked twice is one."""
        id_ = sha256_hex(f"{kind} {subject} {sorted(result.items())}".encode())
        ended = self.job_steps == 0
        facts = {"id": id_, "kind": kind, "subject": subject, "state": "succeeded" if ended else "queued"}
        steps = {"done": 0, "total": self.job_steps, "attempts": 1, "result": dict(result) if ended else {}}
        self._results[id_] = dict(result)
        job = Job.model_validate({**facts, **steps, "created": now(), "updated": now()})
        return self.jobs.setdefault(id_, job)

    def step(self, id_: str) -> Job:
        """Return a job as it is now; it is a step further at the next look."""
        if id_ not in self.jobs:
            raise NotFoundError(f"There is no job {id_[:12]}.")
        job = self.jobs[id_]
        if job.state in {"queued", "running"}:
            done = job.done + 1
            ended = done > job.total
            state = "succeeded" if ended else "running"
            result = self._results[id_] if ended else {}
            step = {"done": min(done, job.total), "state": state, "result": result, "updated": now()}
            self.jobs[id_] = job.model_copy(update=step)
        return job

    def add_token(self, draft: TokenDraft) -> Token:
        """Make a token."""
        expires = now() + timedelta(days=draft.days) if draft.days else None
        id_, secret = secrets.token_hex(8), secrets.token_urlsafe(24)
        token = Token(id=id_, name=draft.name, scope=draft.scope, created=now(), expires=expires, secret=secret)
        self.tokens[id_] = token
        return token

    def token(self, id_: str) -> Token:
        """Return a token."""
        if id_ not in self.tokens:
            raise NotFoundError(f"There is no token {id_[:16]!r} here. Check its id.")
        return self.tokens[id_]

    def entry(self, pllm: Pllm) -> Explanation:
        """Make up the explanation of a pLLM."""
        k = len(self.style.words)
        given = self.words.get((pllm.base, pllm.name))
        if given is None:
            rng = np.random.default_rng(int(pllm.adapter_digest[:12], 16))
            row = [round(float(value), 3) for value in rng.normal(0, 0.4, k)]
        else:
            row = [float(given.get(word, 0)) for word in self.style.words]
        return Explanation(
            name=pllm.name,
            base_digest=pllm.base_digest,
            adapter_digest=pllm.adapter_digest,
            space_digest=self.style.digest,
            adapter_bytes=pllm.adapter_bytes,
            words=self.style.words,
            coefficients=tuple(row),
            lower=tuple(value - 0.1 for value in row),
            upper=tuple(value + 0.1 for value in row),
            held_up=tuple(abs(value) > 0.1 for value in row),
            strength=float(np.linalg.norm(row)),
            residual_share=0.5,
            n_probes=40,
            base_coefficients=(0.0,) * k,
            covariance=tuple(tuple(0.05 * (i == j) for j in range(k)) for i in range(k)),
            base_unexplained=(0.0,) * self.style.unexplained(np.zeros((1, self.style.dim))).shape[1],
        )

    def catalogue(self, base: str) -> tuple[CatalogueInfo, bytes]:
        """Build the catalogue of a base."""
        built = self._catalogue(base)
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "c.xcat.safetensors"
            built.export_compact(path)
            data = path.read_bytes()
        info = CatalogueInfo(
            base=base,
            base_digest=built.base_digest,
            space=built.space_digest,
            version=sha256_hex(data),
            n_pllms=len(built.entries),
            n_bytes=len(data),
            pllms=[entry.name for entry in built.entries],
        )
        self._versions[info.version] = {entry.name: entry for entry in built.entries}
        return info, data

    def delta(self, info: CatalogueInfo, data: bytes, since: str) -> bytes | None:
        """Return what leads from a version that was given out to the present one; None where it was not."""
        old, new = self._versions.get(since), self._versions[info.version]
        if old is None:
            return None
        changed = [row for row, name in enumerate(info.pllms) if old.get(name) != new[name]]
        removed = {entry.adapter_digest[:16] for entry in old.values()} - {entry.adapter_digest[:16] for entry in new.values()}
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            full, out = Path(folder) / "full.safetensors", Path(folder) / "delta.safetensors"
            full.write_bytes(data)
            export_delta(full, out, changed=changed, removed=removed)
            return out.read_bytes()

    def cells(self, base: str) -> Cells:
        """Cut the catalogue of a base."""
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = Path(folder) / "c.xcat.safetensors"
            self._catalogue(base).export_compact(path)
            return cut(read_compact(path), lambda points, n: points[:: max(len(points) // n, 1)], capacity=self.cell_capacity)

    def _catalogue(self, base: str) -> Catalogue:
        self.base(base)
        entries = [self.entry(pllm) for pllm in self.pllms.values() if pllm.base == base and pllm.explanation and pllm.published]
        if not entries:
            raise NotFoundError(f"No pLLM of '{base}' is explained yet. Register one and wait for its job.")
        return Catalogue.of(entries)


def adapter_bytes(seed: str, *, rank: int = 2, width: int = 8) -> dict[str, bytes]:
    """Make the files of a small adapter in PEFT's format."""
    rng = np.random.default_rng(int(sha256_hex(seed.encode())[:12], 16))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": rng.normal(size=(rank, width)).astype(np.float32),
        f"{module}.lora_B.weight": rng.normal(size=(width, rank)).astype(np.float32),
    }
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / WEIGHTS
        write_safetensors(path, tensors)
        return {WEIGHTS: path.read_bytes(), CONFIG: json.dumps(config).encode()}


def _made(draft: PllmDraft) -> str:
    return sha256_hex(f"entry {draft.model_dump_json()}".encode())


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


@cache
def default_space() -> StyleSpace:
    """Return the space that comes with the package."""
    return StyleSpace.default()


def load_space(data: bytes) -> StyleSpace:
    """Read a style space from bytes."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / "space.safetensors"
        path.write_bytes(data)
        return StyleSpace.load(path)


def load_space_exemplars(data: bytes) -> Exemplars:
    """Read exemplars from bytes."""
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / "exemplars.json"
        path.write_bytes(data)
        return load_exemplars(path)


def _dump(space: StyleSpace) -> bytes:
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / "space.safetensors"
        space.save(path)
        return path.read_bytes()


def _fault(weights: bytes) -> str | None:
    with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(weights)
        try:
            read_safetensors(path)
        except XpertError as error:
            return str(error).replace(str(path), WEIGHTS)
    return None


def _body(entry: Explanation) -> ExplanationBody:
    words = [
        WordBody(word=w.word, coefficient=w.coefficient, lower=w.lower, upper=w.upper, held_up=w.held_up)
        for w in entry.top(len(entry.words))
    ]
    return ExplanationBody(
        space=entry.space_digest,
        words=words,
        strength=entry.strength,
        residual_share=entry.residual_share,
        n_probes=entry.n_probes,
    )
