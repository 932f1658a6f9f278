"""Asking for explanations; imports no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from xpert.core.data import probes as default_probes
from xpert.core.errors import MismatchError, NotFoundError
from xpert.core.files import sha256_hex
from xpert.wire import ExplanationDraft, Job, Pllm
from xpert_services.jobs import JobRequest, Jobs
from xpert_services.registry import Bases, Pllms, Spaces


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How explanations are made.

    Attributes
    ----------
    probes
        Prompts that base and pLLMs answer.
    max_new_tokens
        Longest answer.
    """

    probes: tuple[str, ...] = ()
    max_new_tokens: int = 160

    @property
    def asked(self) -> tuple[str, ...]:
        """The probes; those that come with the package where none are given."""
        return self.probes or default_probes()

    @property
    def digest(self) -> str:
        """What the answers depend on besides the models."""
        return sha256_hex(json.dumps([list(self.asked), asdict(self)["max_new_tokens"]]).encode())


def asking_in(space: str, spaces: Spaces, site: Asking) -> Asking:
    """Return how pLLMs are asked that are explained in a space: by its own probes where it has some, else by the site's."""
    own = spaces.probes(space)
    return replace(site, probes=own) if own else site


class Explanations:
    """Turns requests for explanations into jobs.

    Parameters
    ----------
    bases, spaces, pllms
        What is registered.
    jobs
        The queue.
    asking
        How explanations are made.
    """

    def __init__(self, bases: Bases, spaces: Spaces, pllms: Pllms, jobs: Jobs, *, asking: Asking) -> None:
        self._bases, self._spaces, self._pllms, self._jobs, self._asking = bases, spaces, pllms, jobs, asking

    def ask(self, draft: ExplanationDraft) -> Job:
        """Explain pLLMs of a base, all of them where none is named.

        Raises
        ------
        NotFoundError
            There is no such base, space or pLLM, or no pLLM at all.
        """
        self._bases.get(draft.base)
        names = sorted(set(draft.pllms)) or self._all(draft.base)
        if not names:
            raise NotFoundError(f"The base '{draft.base}' has no pLLMs yet. Register one: POST /v1/pllms.")
        return self.ask_for(draft.base, {name: self._pllms.registration(draft.base, name) for name in names}, space=draft.space)

    def ask_for(self, base: str, registrations: dict[str, str], *, space: str | None = None) -> Job:
        """Explain registrations (name -> registration) of pLLMs and note the job with each.

        Raises
        ------
        NotFoundError
            There is no such space, or a pLLM was removed meanwhile.
        """
        space = self._spaces.get(space).digest if space else self._spaces.default().digest
        asking = asking_in(space, self._spaces, self._asking)
        digest = self._bases.get(base).digest
        names = list(registrations)
        inputs = {
            "base": base,
            "base_digest": digest,
            "space": space,
            "pllms": registrations,
            "asking": asking.digest,
        }
        subject = f"{base}/{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        request = JobRequest(
            kind="explain",
            subject=subject,
            inputs=inputs,
            group=sha256_hex(f"{base} {digest} {space} {asking.digest}".encode()),
            total=(len(names) + 1) * len(asking.asked),
        )
        job = self._jobs.submit(request)
        for name, registration in registrations.items():
            self._pllms.set_job(base, name, registration, job.id)
        return job

    def ask_after(self, pllm: Pllm, registration: str) -> Pllm:
        """Explain a pLLM that was just registered; returns it with its job."""
        job = self.ask_for(pllm.base, {pllm.name: registration})
        return pllm.model_copy(update={"job": job.id})

    def _all(self, base: str) -> list[str]:
        names: Sequence[Pllm] = self._pllms.page(base=base, after=None, limit=10**9).items
        return [pllm.name for pllm in names if pllm.quarantined is None]


def check_asking(expected: str, asking: Asking) -> None:
    """Refuse a job that was asked with other probes or settings than this worker's.

    Raises
    ------
    MismatchError
        They differ.
    """
    if asking.digest != expected:
        raise MismatchError(
            "The job wants other probes or lengths than this worker has. Start workers with the server's settings."
        )
