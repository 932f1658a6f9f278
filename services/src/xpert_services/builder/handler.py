"""The handler of jobs that build style spaces."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from xpert.core.errors import FileFormatError, MismatchError
from xpert.core.exemplars import Exemplars, load_exemplars
from xpert.core.space import build_space
from xpert_services.explainer.models import Models
from xpert_services.jobs import Lease, progress_of
from xpert_services.registry import Spaces
from xpert_services.store import Store


class Builder:
    """Builds style spaces from exemplars with the server's encoder, and registers them.

    Parameters
    ----------
    store
        Where the exemplars are.
    models
        For the encoder.
    spaces
        Where they are registered.
    """

    def __init__(self, store: Store, models: Models, *, spaces: Spaces) -> None:
        self._store, self._models, self._spaces = store, models, spaces

    def __call__(self, leases: Sequence[Lease]) -> None:
        """Do jobs, one by one."""
        for lease in leases:
            self._build(lease)

    def _build(self, lease: Lease) -> None:
        inputs = lease.job.inputs
        encoder = self._models.encoder
        if encoder.name != inputs["encoder"]:
            raise MismatchError(f"The job wants the encoder '{inputs['encoder']}', this worker has '{encoder.name}'. Ask again.")
        exemplars = self._exemplars(inputs["exemplars"])
        space = build_space(
            exemplars.texts,
            encoder,
            name=inputs["name"],
            version=inputs["version"],
            progress=progress_of([lease]),
        )
        lease.renew()
        body = self._spaces.keep(space, exemplars=inputs["exemplars"], probes=exemplars.probes)
        lease.succeed({"space": body.digest})

    def _exemplars(self, digest: str) -> Exemplars:
        with tempfile.TemporaryDirectory(prefix="xpert-") as folder:
            path = self._store.artifacts.download(digest, Path(folder) / "exemplars.json")
            try:
                return load_exemplars(path)
            except FileFormatError as error:
                # The place where it was unpacked tells nobody anything.
                raise FileFormatError(str(error).replace(str(path), f"artifact {digest[:12]}")) from error
