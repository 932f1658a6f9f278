"""Everything that the API needs, put together over one store; imports no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xpert_services.access import Audit, Signer, Tokens
from xpert_services.builder.asking import Builds
from xpert_services.catalogue import Catalogues
from xpert_services.explainer.asking import Asking, Explanations
from xpert_services.jobs import Jobs
from xpert_services.merger.asking import Merges
from xpert_services.registry import Bases, Direct, Intake, Pllms, Quarantine, Spaces
from xpert_services.store import Store


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a site runs.

    Attributes
    ----------
    folders
        Folders below which base models may be given by path.
    admin_token
        An administrator's token besides those in the store.
    most_bytes
        Largest file that is taken.
    address_s
        How long signed addresses hold.
    direct
        Address by which clients reach the bucket of the store by themselves; without, files pass through the server.
    asking
        How explanations are made.
    cell_capacity
        pLLMs a cell of a catalogue holds; without, as many as fit into its bytes.
    """

    folders: Sequence[Path] = ()
    admin_token: str | None = field(default=None, repr=False)
    most_bytes: int = 2 * 2**30
    address_s: int = 900
    direct: str | None = None
    asking: Asking = field(default_factory=Asking)
    cell_capacity: int | None = None


@dataclass(frozen=True)
class Services:
    """The plain classes over one store."""

    store: Store
    settings: Settings
    tokens: Tokens
    audit: Audit
    signer: Signer
    intake: Intake
    direct: Direct | None
    bases: Bases
    spaces: Spaces
    pllms: Pllms
    quarantine: Quarantine
    jobs: Jobs
    explanations: Explanations
    merges: Merges
    builds: Builds
    catalogues: Catalogues

    @classmethod
    def over(cls, store: Store, settings: Settings | None = None) -> Services:
        """Put them together."""
        settings = settings or Settings()
        bases, spaces, jobs = Bases(store, folders=settings.folders), Spaces(store), Jobs(store)
        intake = Intake(store)
        pllms = Pllms(store, bases, most_bytes=settings.most_bytes)
        return cls(
            store=store,
            settings=settings,
            tokens=Tokens(store, fixed=settings.admin_token),
            audit=Audit(store),
            signer=Signer(store, lifetime_s=settings.address_s),
            intake=intake,
            direct=Direct(store, intake, settings.direct, lifetime_s=settings.address_s) if settings.direct else None,
            bases=bases,
            spaces=spaces,
            pllms=pllms,
            quarantine=Quarantine(store),
            jobs=jobs,
            explanations=Explanations(bases, spaces, pllms, jobs, asking=settings.asking),
            merges=Merges(bases, pllms, jobs),
            builds=Builds(store, jobs),
            catalogues=Catalogues(store, bases, pllms, cell_capacity=settings.cell_capacity),
        )
