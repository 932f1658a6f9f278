"""Asking for style spaces to be built; imports no model."""

from __future__ import annotations

from xpert.core.errors import InputError, MismatchError
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
        MismatchError
            They are to be embedded by another encoder than the server's.
        """
        if draft.exemplars is None:
            raise InputError("Name the exemplars to build a style space from, by their digest.")
        # Another encoder makes another space of the same exemplars.
        encoder = StyleSpace.default().encoder
        if draft.encoder not in (None, encoder):
            raise MismatchError(
                f"The style space wants the sentence encoder '{draft.encoder}', this server has '{encoder}'. Ask for that."
            )
        self._store.artifacts.stat(draft.exemplars)
        inputs = {
            "exemplars": draft.exemplars,
            "name": draft.name,
            "version": draft.version,
            "encoder": encoder,
        }
        return self._jobs.submit(JobRequest(kind="space", subject=f"{draft.name}, version {draft.version}", inputs=inputs))
