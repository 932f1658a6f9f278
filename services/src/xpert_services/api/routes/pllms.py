"""pLLMs: register, list, describe, remove; explanations and merges as jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from xpert.wire import ExplanationDraft, Job, MergeDraft, Page, Pllm, PllmChange, PllmDraft, SampleAnswer
from xpert.wire.bodies import Digest
from xpert_services.api.parts import PROBLEMS, Name, PageQuery, Parts, SpaceQuery, needs
from xpert_services.services import Services

WORD = r"^[A-Za-z][A-Za-z-]{0,39}:-?[0-9](\.[0-9]{1,3})?$"

router = APIRouter(prefix="/v1", tags=["pLLMs"], responses=PROBLEMS)


class PllmQuery(PageQuery):
    """Which pLLMs.

    ``word=poetic:0.5`` keeps those that are published with at least 0.5 of a word, ``word=formal:-0.3`` those with at most
    -0.3; several words must all hold. It is for people who browse; phones fetch the catalogue and choose by themselves.
    """

    base: Name | None = None
    space: Digest | None = None
    word: list[Annotated[str, Field(pattern=WORD)]] = Field(default=[], max_length=8)


@router.get("/pllms", dependencies=[needs("read")])
def list_pllms(services: Parts, query: Annotated[PllmQuery, Query()]) -> Page[Pllm]:
    """List pLLMs by pages."""
    space = query.space or services.spaces.default().digest
    return services.pllms.page(base=query.base, after=query.after, limit=query.limit, space=space, keep=_having(query.word))


@router.post("/pllms", status_code=201, dependencies=[needs("publish")], responses={200: {"model": Pllm}})
def register_pllm(services: Parts, draft: PllmDraft, response: Response) -> Pllm:
    """Register an uploaded adapter; the job in the answer checks and explains it. The same again answers 200."""
    pllm, registration, is_new = services.pllms.register(draft)
    response.status_code = 201 if is_new else 200
    return services.explanations.ask_after(pllm, registration)


@router.get("/pllms/{base}/{name}", dependencies=[needs("read")])
def get_pllm(services: Parts, base: Name, name: Name, query: Annotated[SpaceQuery, Query()]) -> Pllm:
    """Describe a pLLM."""
    return services.pllms.get(base, name, space=query.space or services.spaces.default().digest)


@router.get("/pllms/{base}/{name}/answers", dependencies=[needs("read")])
def list_answers(services: Parts, base: Name, name: Name, query: Annotated[PageQuery, Query()]) -> Page[SampleAnswer]:
    """List what base and pLLM answered to the probes that explained it; 404 where it is not explained yet."""
    return services.pllms.samples(base, name, after=query.after, limit=query.limit)


@router.patch("/pllms/{base}/{name}", dependencies=[needs("publish")])
def change_pllm(services: Parts, base: Name, name: Name, change: PllmChange) -> Pllm:
    """Put a pLLM into the catalogue, or take it out; it stays registered and explained."""
    pllm = services.pllms.set_published(base, name, is_published=change.publish)
    _refresh(services, base)
    return pllm


@router.delete("/pllms/{base}/{name}", status_code=204, response_class=Response, dependencies=[needs("publish")])
def remove_pllm(services: Parts, base: Name, name: Name) -> None:
    """Remove a pLLM; it leaves the catalogue at once."""
    services.pllms.remove(base, name)
    _refresh(services, base)


@router.post("/explanations", status_code=202, dependencies=[needs("publish")])
def ask_explanation(services: Parts, draft: ExplanationDraft) -> Job:
    """Explain pLLMs; asking twice is one job."""
    return services.explanations.ask(draft)


@router.post("/merges", status_code=202, dependencies=[needs("publish")])
def ask_merge(services: Parts, draft: MergeDraft) -> Job:
    """Merge pLLMs into a new one; asking twice is one job."""
    return services.merges.ask(draft)


def _refresh(services: Services, base: str) -> None:
    for space in services.catalogues.spaces(base):
        services.catalogues.refresh(base, space)


def _having(words: list[str]) -> Callable[[Pllm], bool]:
    """Return the filter of ``word=NAME:VALUE``."""
    wanted = [(name, float(value)) for name, value in (re.split(":", word) for word in words)]

    def keep(pllm: Pllm) -> bool:
        found = {word.word: word.coefficient for word in pllm.explanation.words} if pllm.explanation else {}
        return all(name in found and (found[name] >= value if value >= 0 else found[name] <= value) for name, value in wanted)

    return keep
