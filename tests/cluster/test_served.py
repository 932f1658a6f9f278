"""What the server is asked about a pLLM while a style space is rolled out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from reconcile_cases import NEXT, SPACE, held, job

from xpert.core.errors import NotFoundError
from xpert.wire import Job, Pllm
from xpert_operator.reconcile.views import Known
from xpert_operator.server import Server


@dataclass
class Client:
    """A server with one pLLM."""

    explained: tuple[str, ...]
    catalogues: tuple[str, ...]
    published: bool = True

    async def pllm(self, base: str, name: str, *, space: str | None) -> Pllm:
        return held(explained=space in self.explained, published=self.published, job="1" * 64)

    async def job(self, id_: str) -> Job:
        return job("running")

    async def catalogue_info(self, base: str, *, space: str | None) -> Any:
        if space not in self.catalogues:
            raise NotFoundError("There is none.")
        return type("Info", (), {"version": f"of {space[:1]}"})


@pytest.mark.parametrize(
    ("client", "serving", "explained", "catalogue", "is_served"),
    [
        (Client((SPACE,), (SPACE,)), SPACE, False, f"of {SPACE[:1]}", True),
        (Client((), (SPACE,)), SPACE, False, None, False),
        (Client((SPACE,), (SPACE,)), None, False, None, False),
        (Client((SPACE, NEXT), (SPACE, NEXT)), SPACE, True, f"of {NEXT[:1]}", False),
        (Client((SPACE, NEXT), (SPACE,)), SPACE, True, f"of {SPACE[:1]}", True),  # the new catalogue is not cut yet
        (Client((SPACE,), (SPACE,), published=False), SPACE, False, None, True),
        (Client((SPACE, NEXT), (), published=False), SPACE, True, None, False),
    ],
)
def test_the_version_that_serves_counts_until_the_new_one_does(
    client: Any, serving: str | None, explained: bool, catalogue: str | None, is_served: bool
) -> None:
    async def ask() -> Known:
        return await Server(client, asyncio.Semaphore(1), 1).pllm("starter", "team.mine", space=NEXT, serving=serving, job=None)

    known = asyncio.run(ask())
    assert known.pllm is not None and (known.pllm.explanation is not None) == explained
    assert (known.catalogue, known.is_served) == (catalogue, is_served)
    assert (known.job is None) == explained
