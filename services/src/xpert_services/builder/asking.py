"""Asking for style spaces to be built; imports no model."""

from __future__ import annotations

from xpert.core.errors import InputError
from xpert.core.space import StyleSpace
from xpert.wire import Job, SpaceDraft
from xpert_services.jobs import JobRequest, Jobs
from xpert_services.store import Store


class Builds:
    """Turns requests for style spaces into jobs.

    Parameters
    ----------
    store
        Where the exemplars are.
    jobs
        The queue.
    """

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs

    def ask(self, draft: SpaceDraft) -> Job:
        """Build a style space from uploaded exemplars.

        Raises
        ------
        NotFoundError
            They were not uploaded.
        InputError
            None are named.
        """
        if draft.exemplars is None:
            raise InputError("Name the exemplars to build a style space from, by their digest.")
        self._store.artifacts.stat(draft.exemplars)
        inputs = {
            "exemplars": draft.exemplars,
            "name": draft.name,
            "version": draft.version,
            # Another encoder makes another space of the same exemplars.
            "encoder": StyleSpace.default().encoder,
        }
        return self._jobs.submit(JobRequest(kind="space", subject=f"{draft.name}, version {draft.version}", inputs=inputs))
