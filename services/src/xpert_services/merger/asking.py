"""Asking for merges; imports no model."""

from __future__ import annotations

from xpert.core.errors import ConflictError, InputError, NotFoundError
from xpert.wire import Job, MergeDraft
from xpert_services.jobs import JobRequest, Jobs
from xpert_services.registry import Bases, Pllms


class Merges:
    """Turns requests for merges into jobs.

    Parameters
    ----------
    bases, pllms
        What is registered.
    jobs
        The queue.
    """

    def __init__(self, bases: Bases, pllms: Pllms, jobs: Jobs) -> None:
        self._bases, self._pllms, self._jobs = bases, pllms, jobs

    def ask(self, draft: MergeDraft) -> Job:
        """Merge pLLMs of a base into a new one.

        Raises
        ------
        NotFoundError
            There is no such base or pLLM.
        InputError
            A source is named twice, or was refused.
        ConflictError
            Another pLLM has the name.
        """
        names = [source.pllm for source in draft.sources]
        if len(set(names)) < len(names) or draft.name in names:
            raise InputError("A merge takes every pLLM once, and makes one of another name. Correct the sources or the name.")
        pllms = [self._pllms.get(draft.base, name) for name in names]
        refused = [pllm.name for pllm in pllms if pllm.quarantined]
        if refused:
            raise InputError(f"Cannot merge {', '.join(refused)}: in quarantine. Ask for that pLLM to see why.")
        request = JobRequest(
            kind="merge",
            subject=f"{draft.base}/{draft.name}",
            inputs={
                "base": draft.base,
                "base_digest": self._bases.get(draft.base).digest,
                "name": draft.name,
                "sources": [
                    {"pllm": each.pllm, "weight": each.weight, "registration": self._pllms.registration(draft.base, each.pllm)}
                    for each in draft.sources
                ],
                "rank": draft.rank,
            },
            total=len(names) + 1,
        )
        # A pLLM that was removed since it was merged is merged again.
        return self._jobs.submit(request, renew=not self._is_there(draft, request.id))

    def _is_there(self, draft: MergeDraft, job: str) -> bool:
        """Say whether the job's pLLM is there; refuse where another one has its name."""
        try:
            found = self._pllms.origin(draft.base, draft.name)
        except NotFoundError:
            return False
        if found != job:
            raise ConflictError(f"'{draft.name}' of '{draft.base}' is there already. Remove it first, or take another name.")
        return True
