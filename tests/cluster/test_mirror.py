"""Who is looked at again when something changes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from xpert_operator.mirror import Key, Mirror, key_of
from xpert_operator.workqueue import LONGEST, Queue, Verdict


def body(
    kind: str, name: str, version: int, *, status: Mapping[str, Any] | None = None, meta: Any = None, **spec: Any
) -> dict[str, Any]:
    where = {} if kind == "BaseModel" else {"namespace": "team"}
    metadata = {"name": name, "uid": name, "generation": 1, "resourceVersion": str(version), **where, **(meta or {})}
    given = {} if kind == "BaseModel" else {"baseModel": {"name": "starter"}}
    return {"kind": kind, "metadata": metadata, "spec": {**given, **spec}, "status": status or {}}


def stored(status: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Stored", "status": status}]}


def pllm(name: str) -> Key:
    return Key("PersonalizedLLM", "team", name)


STARTER, WORDS = Key("BaseModel", "", "starter"), Key("StyleSpace", "team", "words")


def filled() -> tuple[Mirror, list[Key]]:
    """Two pLLMs in a space, a merge of them, and one that nobody refers to."""
    told: list[Key] = []
    mirror = Mirror(told.append)
    sources = {"sources": [{"name": "one"}, {"name": "two"}]}
    mirror.put(body("BaseModel", "starter", 1))
    mirror.put(body("StyleSpace", "words", 2))
    for number, name in enumerate(("one", "two"), 3):
        secret = {"adapter": {"secretRef": {"name": f"secret-{name}"}}}
        mirror.put(body("PersonalizedLLM", name, number, styleSpace={"name": "words"}, **secret))
    mirror.put(body("PersonalizedLLM", "mix", 5, merge=sources))
    mirror.put(body("PersonalizedLLM", "alone", 6))
    told.clear()
    return mirror, told


def test_a_change_reaches_those_who_refer_to_it_and_nobody_else() -> None:
    mirror, told = filled()
    mirror.put(body("BaseModel", "starter", 7, status={"digest": "d"}))
    assert set(told) == {pllm(name) for name in ("one", "two", "mix", "alone")} | {WORDS}
    told.clear()
    mirror.put(body("StyleSpace", "words", 8, status={"next": {"digest": "n"}}))
    assert set(told) == {pllm("one"), pllm("two")}
    told.clear()
    mirror.put(body("PersonalizedLLM", "one", 9, status=stored("True"), styleSpace={"name": "words"}))
    assert set(told) == {pllm("mix"), WORDS}
    told.clear()
    mirror.touch(Key("Secret", "team", "secret-two"))
    assert told == [pllm("two")]
    told.clear()
    mirror.touch(Key("Secret", "other", "secret-two"))
    assert told == []
    places = {name: {"configMap": {"name": f"texts-{name}", "key": "k"}} for name in ("exemplars", "probes")}
    mirror.put(body("StyleSpace", "words", 10, meta={"generation": 2}, **places))
    for name in places:
        told.clear()
        mirror.touch(Key("ConfigMap", "team", f"texts-{name}"))
        assert told == [WORDS]


def test_an_own_write_is_no_reason_to_look_again() -> None:
    mirror, told = filled()
    mirror.put(body("PersonalizedLLM", "alone", 7, status={"summary": "poetic 0.9"}))
    mirror.put(body("PersonalizedLLM", "alone", 8, meta={"finalizers": ["xpert.dev/server"]}))
    assert told == []
    mirror.put(body("PersonalizedLLM", "alone", 9))
    assert told == [pllm("alone")], "somebody took the finalizer away"
    mirror.put(body("PersonalizedLLM", "alone", 10, meta={"generation": 2}))
    assert told == [pllm("alone")] * 2


def test_a_base_hears_of_those_who_refer_to_it_only_while_it_is_to_go() -> None:
    mirror, told = filled()
    mirror.drop(body("PersonalizedLLM", "alone", 7))
    assert STARTER not in told
    mirror.put(
        body("BaseModel", "starter", 8, meta={"deletionTimestamp": "2026-11-01T00:00:00Z", "finalizers": ["xpert.dev/in-use"]})
    )
    told.clear()
    mirror.put(
        body("PersonalizedLLM", "mix", 9, meta={"deletionTimestamp": "2026-11-01T00:00:00Z", "finalizers": ["xpert.dev/server"]})
    )
    assert STARTER in told
    told.clear()
    mirror.drop(body("StyleSpace", "words", 10))
    assert STARTER in told


def test_whoever_gets_a_turn_is_looked_at_and_not_all_that_refer_to_the_space() -> None:
    mirror, told = filled()
    mirror.put(body("StyleSpace", "words", 7, status={"explaining": ["one"]}))
    assert told == [pllm("one")]
    mirror.put(body("StyleSpace", "words", 8, status={"explaining": ["one", "two"]}))
    assert told == [pllm("one"), pllm("two")]


def test_a_space_hears_how_an_explanation_ended() -> None:
    mirror, told = filled()
    failed = {"conditions": [{"type": "Explained", "status": "False", "reason": "JobFailed"}]}
    waits = {"conditions": [{"type": "Explained", "status": "False", "reason": "Queued"}]}
    mirror.put(body("PersonalizedLLM", "one", 7, status=waits, styleSpace={"name": "words"}))
    assert WORDS not in told
    mirror.put(body("PersonalizedLLM", "one", 8, status=failed, styleSpace={"name": "words"}))
    assert WORDS in told
    told.clear()
    mirror.put(body("PersonalizedLLM", "one", 9, status=waits, styleSpace={"name": "words"}))
    assert WORDS in told, "it asks for another turn"


def test_what_is_older_than_what_is_held_is_left_out() -> None:
    mirror, told = filled()
    mirror.put(body("PersonalizedLLM", "alone", 6, meta={"generation": 2}))
    mirror.put(body("PersonalizedLLM", "alone", 4, meta={"generation": 3}))
    assert told == []


def test_references_that_are_gone_tell_nothing() -> None:
    mirror, told = filled()
    mirror.put(body("PersonalizedLLM", "one", 7, meta={"generation": 2}))
    told.clear()
    mirror.put(body("StyleSpace", "words", 8, status={"next": {"digest": "n"}}))
    assert told == [pllm("two")]
    mirror.drop(body("PersonalizedLLM", "mix", 9))
    assert mirror.referrers(pllm("two"), "PersonalizedLLM") == []
    assert {pllm("one"), pllm("two")} <= set(told)


def test_a_listing_drops_what_was_deleted_behind_a_cut_watch() -> None:
    mirror, _ = filled()
    mirror.put(body("PersonalizedLLM", "late", 50))
    mirror.settle("PersonalizedLLM", [pllm("one"), pllm("two")], 20)
    assert [key.name for key in mirror if key.kind == "PersonalizedLLM"] == ["one", "two", "late"]


def test_the_answer_to_a_last_write_does_not_bring_a_resource_back() -> None:
    mirror, _ = filled()
    ended = body("PersonalizedLLM", "alone", 9, meta={"deletionTimestamp": "2026-11-01T00:00:00Z"})
    mirror.drop(ended)
    mirror.put(ended)
    assert mirror.get(pllm("alone")) is None


def test_only_what_is_asked_for_is_held() -> None:
    mirror, _ = filled()
    large = {"annotations": {"last": "x" * 1000}, "managedFields": [{}]}
    mirror.put(body("PersonalizedLLM", "large", 60, meta=large))
    found = mirror.get(pllm("large"))
    assert found is not None and not {"annotations", "managedFields"} & set(found["metadata"])
    assert key_of(found) == pllm("large")


def test_one_resource_is_never_looked_at_twice_at_a_time_and_none_is_forgotten() -> None:
    counts: dict[Key, int] = {}
    busy: set[Key] = set()

    async def look(key: Key, retries: bool) -> Verdict:
        assert key not in busy
        busy.add(key)
        await asyncio.sleep(0)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] == 1:
            queue.add(key)  # it changed while it was looked at
        await asyncio.sleep(0)
        busy.discard(key)
        return Verdict()

    queue = Queue(look, drift_s=1000)

    async def main() -> None:
        keys = [pllm(f"p{number}") for number in range(50)]
        for key in keys * 3:
            queue.add(key)
        async with asyncio.timeout(20):
            working = asyncio.create_task(queue.run(8))
            while sum(counts.values()) < 100 or len(queue) < 50:  # each waits for the drift timer in the end
                await asyncio.sleep(0.001)
            working.cancel()
        assert set(counts.values()) == {2}

    asyncio.run(main())


def test_pauses_grow_to_a_cap_and_are_spread() -> None:
    queue = Queue(lambda key, retries: asyncio.sleep(0, None), drift_s=1000)

    async def main() -> list[float]:
        found = []
        for _ in range(12):
            queue._schedule(pllm("one"), Verdict(5.0, is_failure=True))
            at, _ = queue._wanted.pop(pllm("one"))
            found.append(at - asyncio.get_running_loop().time())
        return found

    pauses = asyncio.run(main())
    for number, pause in enumerate(pauses):
        wanted = min(5 * 2**number, LONGEST)
        assert wanted * 0.79 < pause < wanted * 1.21
    assert len({round(pause / LONGEST, 6) for pause in pauses[-5:]}) == 5


def test_days_of_failures_end_nobody() -> None:
    queue = Queue(lambda key, retries: asyncio.sleep(0, None), drift_s=1000)

    async def main() -> None:
        queue._failures[pllm("one")] = 5000
        queue._schedule(pllm("one"), Verdict(5.0, is_failure=True))
        at, _ = queue._wanted[pllm("one")]
        assert at - asyncio.get_running_loop().time() < LONGEST * 1.21

    asyncio.run(main())


def test_what_is_gone_is_not_looked_at_again() -> None:
    looked: list[Key] = []

    async def look(key: Key, retries: bool) -> None:
        looked.append(key)

    queue = Queue(look, drift_s=0.001)

    async def main() -> None:
        queue.add(pllm("one"))
        working = asyncio.create_task(queue.run(1))
        async with asyncio.timeout(20):
            while not looked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        working.cancel()

    asyncio.run(main())
    assert looked == [pllm("one")] and len(queue) == 0
