"""States of resources and of the server, as the decisions look at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from xpert.wire import Base, ExplanationBody, Job, MergeSource, Pllm, WordBody
from xpert_operator.reconcile import BaseObserved, PllmObserved, SpaceObserved
from xpert_operator.reconcile.pllm import TYPES
from xpert_operator.reconcile.views import BaseView, Known, Meta, Plan, SourceView, SpaceKnown
from xpert_operator.resources import (
    BaseModelSpec,
    BaseModelStatus,
    Condition,
    PersonalizedLLMSpec,
    PersonalizedLLMStatus,
    StyleSpaceSpec,
    StyleSpaceStatus,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
WEIGHTS, OTHER = "a" * 64, "c" * 64
BASE, SPACE, NEXT = "b" * 64, "d" * 64, "e" * 64
ADAPTER = {"uri": "s3://adapters/mine", "digest": f"sha256:{WEIGHTS}", "secretRef": {"name": "bucket"}}
MERGE = {"sources": [{"name": "one", "weight": 0.5}, {"name": "two", "weight": 0.5}]}
STORED = {"one": SourceView(base="starter", is_stored=True), "two": SourceView(base="starter", is_stored=True)}


def condition(type_: str, status: str = "True", reason: str = "", *, since: float = 0, generation: int = 1) -> Condition:
    """A condition that has been as it is for so many seconds."""
    return Condition(
        type=type_,
        status=status,
        reason=reason or type_,
        message="",
        last_transition_time=NOW - timedelta(seconds=since),
        observed_generation=generation,
    )


READY = tuple(condition(type_, since=60) for type_ in TYPES)


def meta(**more: Any) -> Meta:
    return Meta(**{"namespace": "team", "name": "mine", "generation": 1, "has_finalizer": True, **more})


def pllm(*, spec: dict[str, Any] | None = None, **more: Any) -> PllmObserved:
    """A pLLM with an adapter, accepted, and not on the server yet."""
    wanted = {"baseModel": {"name": "starter"}, "adapter": ADAPTER, **(spec or {})}
    found = PersonalizedLLMSpec.model_validate({key: value for key, value in wanted.items() if value is not None})
    given = {"meta": meta(), "status": PersonalizedLLMStatus(), "base": BaseView(digest=BASE), "now": NOW, **more}
    return PllmObserved(spec=found, **given)


def merged(**more: Any) -> PllmObserved:
    spec = {"adapter": None, "merge": MERGE, **more.pop("spec", {})}
    return pllm(spec=spec, **{"sources": STORED, **more})


def held(*, explained: bool = True, **more: Any) -> Pllm:
    """What the server has."""
    words = [WordBody(word=f"w{n:02d}", coefficient=0.9 - n / 50, lower=0.1, upper=1.0, held_up=True) for n in range(20)]
    body = ExplanationBody(space=SPACE, words=words, strength=1.23456, residual_share=0.5, n_probes=40)
    found: dict[str, Any] = {
        "name": "team.mine",
        "base": "starter",
        "base_digest": BASE,
        "adapter_digest": "f" * 64,
        "adapter_bytes": 1234,
        "files": {"adapter_model.safetensors": WEIGHTS, "adapter_config.json": OTHER},
        "created": NOW,
        "explanation": body if explained else None,
    }
    return Pllm.model_validate({**found, **more})


def merge_held(*weights: float, **more: Any) -> Pllm:
    names = ("team.one", "team.two")
    sources = [MergeSource(pllm=name, weight=weight) for name, weight in zip(names, weights, strict=True)]
    return held(merged_from=sources, **more)


def job(state: str, **more: Any) -> Job:
    return Job.model_validate(
        {"id": "1" * 64, "kind": "explain", "subject": "s", "state": state, "created": NOW, "updated": NOW, **more}
    )


def known(pllm: Pllm | None = None, job: Job | None = None, catalogue: str | None = None, *, is_served: bool = False) -> Known:
    return Known(pllm=pllm, job=job, catalogue=catalogue, is_served=is_served)


def space(*, spec: dict[str, Any] | None = None, **more: Any) -> SpaceObserved:
    """A style space from exemplars, not on the server yet."""
    texts = {"configMap": {"name": "texts", "key": "exemplars.jsonl"}}
    wanted = {"baseModel": {"name": "starter"}, "version": 1, "exemplars": texts, **(spec or {})}
    found = StyleSpaceSpec.model_validate({key: value for key, value in wanted.items() if value is not None})
    given = {"meta": meta(), "status": StyleSpaceStatus(), "base": BaseView(digest=BASE), "now": NOW, **more}
    return SpaceObserved(spec=found, **given)


def on_server(digest: str) -> SpaceKnown:
    return SpaceKnown(digest=digest, words=("poetic", "terse"))


def base(*, digest: str | None = None, **more: Any) -> BaseObserved:
    given = {"meta": meta(namespace="", name="starter"), "status": BaseModelStatus(), "now": NOW, **more}
    return BaseObserved(spec=BaseModelSpec(source="starter:base", digest=digest), **given)


def base_held(source: str = "starter:base") -> Base:
    return Base(name="starter", source=source, digest=BASE, created=NOW)


def told(plan: Plan[Any]) -> dict[str, str]:
    """The conditions in short: type -> reason, with a minus sign before those that do not hold."""
    signs = {"True": "", "False": "-", "Unknown": "?"}
    return {found.type: signs[found.status] + found.reason for found in plan.status.conditions}


def message(plan: Plan[Any], type_: str = "Ready") -> str:
    return next(found.message for found in plan.status.conditions if found.type == type_)
