"""The operator on a real API server, with the real server and a real bucket behind."""

from __future__ import annotations

import pytest
from cluster_cases import DIGEST, Operator, Site, Space, merge, starter, until

from xpert.core.errors import NotFoundError

pytestmark = pytest.mark.slow


def test_from_apply_to_ready(space: Space, operator: Operator, site: Site) -> None:
    space.apply(starter("concise"), starter("poetic"), merge("mix", ("concise", 0.5), ("poetic", 0.5)))
    concise, poetic, mix = space.ready("concise", "poetic", "mix")
    status = poetic["status"]
    assert [condition["type"] for condition in status["conditions"]] == ["Accepted", "Stored", "Explained", "Published", "Ready"]
    assert all(condition["observedGeneration"] == 1 for condition in status["conditions"])
    assert status["words"][0]["word"] == "poetic" and status["summary"].startswith("poetic ")
    assert status["words"][0]["lower"] < status["words"][0]["coefficient"] < status["words"][0]["upper"]
    with site.client() as client:
        known = client.pllm("starter", f"{space.name}.poetic")
        assert known.explanation is not None
        assert status["strength"] == pytest.approx(known.explanation.strength, abs=1e-3)
        assert (status["adapterDigest"], status["adapterBytes"]) == (known.adapter_digest, known.adapter_bytes)
        info = client.catalogue_info("starter")
        assert {f"{space.name}.{name}" for name in ("concise", "poetic", "mix")} <= set(info.pllms)
    assert mix["status"]["adapterDigest"] not in {concise["status"]["adapterDigest"], status["adapterDigest"]}
    assert {"Stored", "Explained", "Published"} <= set(space.events("poetic"))


def test_deletion_takes_the_servers_copy_along(space: Space, operator: Operator, site: Site) -> None:
    space.apply(starter("concise"), starter("poetic", deletionPolicy="Retain"))
    space.ready("concise", "poetic")
    space.delete("concise", "poetic")
    space.gone("concise", "poetic")
    with site.client() as client:
        with pytest.raises(NotFoundError):
            client.pllm("starter", f"{space.name}.concise")
        assert client.pllm("starter", f"{space.name}.poetic")


def test_what_others_are_merged_from_waits_or_takes_them_along(space: Space, operator: Operator) -> None:
    space.apply(starter("concise"), starter("poetic", dependents="Cascade"))
    space.apply(merge("mix", ("concise", 0.5), ("poetic", 0.5)))
    space.ready("mix")
    space.delete("concise")
    assert "Merged from it: mix" in space.reason("concise", "InUse")
    assert "InUse" in space.events("concise")
    space.delete("poetic")
    space.gone("mix", "poetic", "concise")


def test_a_merge_works_on_without_its_source(space: Space, operator: Operator) -> None:
    space.apply(starter("concise", dependents="Ignore"), merge("mix", ("concise", 0.5)))
    space.ready("mix")
    space.delete("concise")
    space.gone("concise")
    space.apply({**merge("mix", ("concise", 0.5)), "spec": {**merge("mix", ("concise", 0.5))["spec"], "publish": False}})
    space.reason("mix", "Unlisted", "Published")
    space.ready("mix")


def test_a_merge_that_is_deleted_while_it_is_made_does_not_come_to_be(space: Space, operator: Operator, site: Site) -> None:
    space.apply(starter("concise"))
    space.ready("concise")
    space.apply(merge("mix", ("concise", 0.5)))
    until(lambda: ((space.get("mix") or {}).get("status") or {}).get("job"), lambda: space.get("mix"))
    job = (space.get("mix") or {})["status"]["job"]
    space.delete("mix")
    space.gone("mix")
    with site.client() as client:
        assert client.job(job).state in {"cancelled", "succeeded"}
        assert f"{space.name}.mix" not in {pllm.name for pllm in client.pllms("starter")}


def test_an_unlisted_one_is_explained_and_in_no_catalogue(space: Space, operator: Operator, site: Site) -> None:
    space.apply(starter("concise", publish=False), starter("poetic"))
    space.ready("concise", "poetic")
    with site.client() as client:

        def listed() -> set[str]:
            return {name.partition(".")[2] for name in client.catalogue_info("starter").pllms if name.startswith(space.name)}

        assert listed() == {"poetic"}
        space.apply(starter("concise"))
        space.reason("concise", "Published", "Published")
        assert listed() == {"poetic", "concise"}


@pytest.mark.parametrize(
    ("adapter", "type_", "reason", "said"),
    [
        ({"digest": DIGEST}, "Stored", "BadFile", "expected aaaaaaaaaaaa"),
        ({"uri": "s3://adapters/nowhere"}, "Stored", "NotFound", "NoSuchKey"),
        ({"secretRef": {"name": "nobody"}}, "Stored", "NotFound", "There is no Secret 'nobody'"),
    ],
)
def test_what_cannot_be_fetched_says_why(
    space: Space, operator: Operator, adapter: dict[str, object], type_: str, reason: str, said: str
) -> None:
    body = starter("concise")
    body["spec"]["adapter"].update(adapter)
    space.apply(body)
    assert said in space.reason("concise", reason, type_)
    assert space.condition("concise")["reason"] == reason
    assert reason in space.events("concise")


def test_what_is_missing_is_waited_for(space: Space, operator: Operator) -> None:
    space.apply(merge("mix", ("concise", 1.0)))
    assert "no PersonalizedLLM 'concise'" in space.reason("mix", "SourceMissing")
    space.apply(starter("poetic", baseModel={"name": "starter", "digest": DIGEST}))
    assert "expected aaaaaaaaaaaa" in space.reason("poetic", "BaseDigestDiffers")
    space.apply(starter("formal", baseModel={"name": "other"}))
    assert "There is no BaseModel 'other'" in space.reason("formal", "BaseModelMissing")
    space.apply(starter("concise"))
    space.ready("concise", "mix")


def test_what_the_server_lost_is_brought_back(space: Space, operator: Operator, site: Site) -> None:
    space.apply(starter("concise"))
    space.ready("concise")
    name = f"{space.name}.concise"
    with site.client() as client:
        first = client.pllm("starter", name).created
        client.delete("starter", name)

        def is_back() -> bool:
            try:
                return client.pllm("starter", name).created > first
            except NotFoundError:
                return False

        until(is_back, lambda: space.get("concise"))
    space.ready("concise")
