"""Why the spec of a `PersonalizedLLM` cannot be used, or not yet."""

from __future__ import annotations

from xpert_operator.reconcile.pllm_seen import PllmObserved, plain
from xpert_operator.reconcile.views import Known

LONGEST_NAME = 63
"""That the server takes."""


def refusal(seen: PllmObserved) -> tuple[str, str] | None:
    """Return why the spec cannot be used, as reason and message."""
    spec, base = seen.spec, seen.base
    if len(seen.server_name) > LONGEST_NAME:
        return "NameTooLong", (
            f"On the server it would be '{seen.server_name}', {len(seen.server_name)} characters, at most {LONGEST_NAME} are "
            "taken. Make one with a shorter name."
        )
    if base is None:
        return "BaseModelMissing", f"There is no BaseModel '{spec.base_model.name}'. Apply it; this one goes on by itself."
    if base.digest is None:
        return "BaseModelNotReady", f"The BaseModel '{spec.base_model.name}' is not ready: {base.message}"
    wanted = plain(spec.base_model.digest)
    if wanted and wanted != base.digest:
        return "BaseDigestDiffers", (
            f"The base '{spec.base_model.name}' has digest {base.digest[:12]}, expected {wanted[:12]}: the adapter belongs to "
            "another."
        )
    return _refused_space(seen) or _refused_sources(seen)


def _is_stored(seen: PllmObserved) -> bool:
    if isinstance(seen.server, Known):
        return seen.server.pllm is not None
    return any(condition.type == "Stored" and condition.status == "True" for condition in seen.meta.conditions)


def _refused_space(seen: PllmObserved) -> tuple[str, str] | None:
    wanted, space = seen.spec.style_space, seen.space
    if wanted is None:
        return None
    if space is None:
        return "StyleSpaceMissing", f"There is no StyleSpace '{wanted.name}' here. Apply it; this one goes on by itself."
    if space.base != seen.spec.base_model.name:
        return (
            "OtherBase",
            f"The StyleSpace '{wanted.name}' is of base '{space.base}', this one of '{seen.spec.base_model.name}'.",
        )
    if space.target is None:
        return "StyleSpaceNotReady", f"The StyleSpace '{wanted.name}' is not ready: {space.message}"
    return None


def _refused_sources(seen: PllmObserved) -> tuple[str, str] | None:
    if _is_stored(seen):
        return None  # a merge is an adapter of its own: its sources may go
    for name, source in seen.sources.items():
        if source is None:
            return "SourceMissing", f"There is no PersonalizedLLM '{name}' here. Apply it; this one goes on by itself."
        if source.base != seen.spec.base_model.name:
            return (
                "OtherBase",
                f"'{name}' is of base '{source.base}', this merge of '{seen.spec.base_model.name}'. Pick pLLMs of one base.",
            )
        if not source.is_stored:
            return "SourceNotReady", f"'{name}' is not stored yet."
    return None
