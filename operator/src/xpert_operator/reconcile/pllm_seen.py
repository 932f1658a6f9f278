"""What a decision on a `PersonalizedLLM` depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from xpert.wire import Pllm
from xpert_operator.reconcile.views import BaseView, Known, Meta, Problem, SourceView, SpaceView
from xpert_operator.resources import PersonalizedLLMSpec, PersonalizedLLMStatus

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class PllmObserved:
    """All that the decision depends on.

    Attributes
    ----------
    meta, spec, status
        The resource.
    base, space
        What it refers to; None where there is no such resource. ``space`` counts where the spec names one.
    sources
        The pLLMs that it is merged from, by name; None where there is no such resource.
    dependents
        Names of pLLMs that are merged from it and not being deleted.
    server
        What the server has, or why that is not known.
    failure
        Why the last action failed.
    retries
        Whether it is time to try again what failed for good or on the server.
    now
        The time.
    """

    meta: Meta
    spec: PersonalizedLLMSpec
    status: PersonalizedLLMStatus
    base: BaseView | None = None
    space: SpaceView | None = None
    sources: Mapping[str, SourceView | None] = field(default_factory=dict)
    dependents: tuple[str, ...] = ()
    server: Known | Problem = field(default_factory=Known)
    failure: Problem | None = None
    retries: bool = False
    now: datetime

    @property
    def server_name(self) -> str:
        """What it is called on the server."""
        return server_name(self.meta.namespace, self.meta.name)

    @property
    def wanted_sources(self) -> dict[str, float]:
        """What it is merged from, by names on the server."""
        sources = self.spec.merge.sources if self.spec.merge else []
        return {server_name(self.meta.namespace, source.name): source.weight for source in sources}

    @property
    def target(self) -> str | None:
        """Digest of the space to be explained in; None: the server's default one."""
        return self.space.target if self.spec.style_space and self.space else None

    @property
    def serving(self) -> str | None:
        """Digest of the version of its space that serves while another one is rolled out."""
        return self.space.serving if self.spec.style_space and self.space else None

    @property
    def awaits_turn(self) -> bool:
        """Whether others of its style space are explained first."""
        return bool(self.spec.style_space and self.space and not self.space.has_turn)


def server_name(namespace: str, name: str) -> str:
    """Return what a pLLM is called on the server: a namespace's name has no dot, so that this is unambiguous."""
    return f"{namespace}.{name}"


def plain(digest: str | None) -> str | None:
    """Return a digest without ``sha256:`` before it."""
    return digest.removeprefix("sha256:") if digest else None


def differs(seen: PllmObserved, pllm: Pllm) -> str | None:
    """Say what the server has instead under the name; None where it is this one."""
    adapter, remedy = seen.spec.adapter, "Delete it there, or make one with another name."
    if adapter:
        found, wanted = pllm.files.get(WEIGHTS, ""), plain(adapter.digest) or ""
        if found != wanted:
            return f"The server has other weights under '{seen.server_name}': {found[:12]}, expected {wanted[:12]}. {remedy}"
    elif {source.pllm: source.weight for source in pllm.merged_from} != seen.wanted_sources:
        return f"The server has something else under '{seen.server_name}'. {remedy}"
    return None
