"""What a site on Ray is made of, as `serve run`, `serve deploy` and a RayService give it. Holds no secret: Ray shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xpert_services.api import Limits
from xpert_services.explainer.asking import Asking
from xpert_services.services import Services, Settings
from xpert_services.store import open_store

ADMIN = "XPERT_ADMIN_TOKEN"
"""Environment variable with an administrator's token; so are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the store."""


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Replicas(_Args):
    """How many replicas a deployment has, and what each gets; as many as are needed where ``most`` is more than ``least``.

    Ray lets torch use as many threads as a replica has ``cpus``, and one where that is less.
    """

    least: int = Field(default=1, ge=1)
    most: int = Field(default=1, ge=1)
    cpus: float = Field(default=0.25, ge=0)
    gpus: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"most is {self.most}, expected at least {self.least} (least)")
        return self


class GatewayArgs(Replicas):
    """The gateway: ``requests`` of one replica run at a time, ``waiting`` more wait, the rest is told to come again."""

    requests: int = Field(default=200, ge=1)
    waiting: int = Field(default=400, ge=1)


class WorkerArgs(Replicas):
    """A deployment that works on jobs.

    It grows by a replica for every ``jobs`` that are open, when that has been so for ``grow_s``, and shrinks after ``shrink_s``.
    """

    jobs: int = Field(default=16, ge=1)
    grow_s: float = Field(default=30.0, ge=0)
    shrink_s: float = Field(default=120.0, ge=0)


class SiteArgs(_Args):
    """A site.

    Attributes
    ----------
    store
        Folder or ``s3://`` URL.
    models
        Folders below which bases may be given by path.
    public_url
        What its addresses begin with behind a proxy.
    direct
        Address by which clients reach the store's bucket by themselves; without, files pass through the gateway.
    most_mib
        Largest file that is taken.
    rate
        Requests of one token that the site takes, such as "1200/minute"; each gateway replica takes its part, as if all of
        ``gateway.most`` were there.
    probes, max_new_tokens
        See `xpert_services.explainer.asking.Asking`.
    lease_s
        How long a job stays a silent worker's.
    """

    store: str
    models: tuple[str, ...] = ()
    public_url: str | None = None
    direct: str | None = None
    most_mib: int = Field(default=2048, ge=1)
    rate: str = Limits.requests
    probes: tuple[str, ...] = ()
    max_new_tokens: int = Field(default=Asking.max_new_tokens, ge=1)
    lease_s: float = Field(default=30.0, ge=2.0)
    gateway: GatewayArgs = GatewayArgs()
    explainer: WorkerArgs = WorkerArgs(cpus=1.0)
    merger: WorkerArgs = WorkerArgs()

    def services(self) -> Services:
        """Open the store and put the plain classes together."""
        settings = Settings(
            folders=[Path(folder) for folder in self.models],
            admin_token=os.environ.get(ADMIN),
            most_bytes=self.most_mib * 2**20,
            direct=self.direct,
            asking=Asking(probes=self.probes, max_new_tokens=self.max_new_tokens),
        )
        return Services.over(open_store(self.store), settings)

    @property
    def limits(self) -> Limits:
        """How much one may ask."""
        return Limits(requests=self.rate, replicas=self.gateway.most)
