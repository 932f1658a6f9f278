"""Publishing, listing and jobs, as a platform engineer does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xpert.client.fake import FakeServer, Fault
from xpert.client.fake.state import default_space
from xpert.core.errors import (
    ConflictError,
    FileFormatError,
    InputError,
    MismatchError,
    NotFoundError,
    StorageError,
    UnavailableError,
    UnsafeFileError,
)
from xpert.core.files import sha256_hex
from xpert.core.space import StyleSpace

Connect = Callable[..., Any]


def test_push_list_and_delete(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    client = connect()
    assert client.add_base("starter", "starter:base") == client.add_base("starter", "starter:base") == client.base("starter")
    told: list[tuple[int, int]] = []
    pllm = client.push(adapter, "starter", "mine", progress=lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in adapter.iterdir())
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert pllm == client.pllm("starter", "mine")
    assert set(client.wait(pllm.job).result) == {"mine"}
    puts = [seen for seen in fake.seen if seen.method == "PUT"]
    assert len(puts) == 2
    assert client.push(adapter, "starter", "mine") == pllm
    assert len([seen for seen in fake.seen if seen.method == "PUT"]) == 2, "what the store has is not sent again"
    client.delete("starter", "mine")
    with pytest.raises(NotFoundError, match="mine"):
        client.pllm("starter", "mine")


def test_a_name_stands_for_one_adapter(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    fake.add("starter", "mine")
    with pytest.raises(ConflictError, match="another adapter"):
        connect().push(adapter, "starter", "mine")


def test_what_is_not_published_is_in_no_catalogue(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    fake.add("starter", "other")
    client = connect()
    assert not client.push(adapter, "starter", "mine", publish=False).published
    assert client.catalogue_info("starter").pllms == ["other"]
    assert client.publish("starter", "mine").published
    assert client.catalogue_info("starter").pllms == ["mine", "other"]
    assert not client.publish("starter", "mine", is_published=False).published
    assert client.catalogue_info("starter").pllms == ["other"]


def test_lists_are_read_page_by_page_and_filtered(fake: FakeServer, connect: Connect) -> None:
    for i in range(7):
        fake.add("starter", f"p{i}", words={"poetic": i / 10})
    client = connect()
    assert [pllm.name for pllm in client.pllms("starter", page=3)] == [f"p{i}" for i in range(7)]
    assert len([seen for seen in fake.seen if seen.path == "/v1/pllms"]) == 3
    assert [pllm.name for pllm in client.pllms(words={"poetic": 0.5})] == ["p5", "p6"]
    fake.add("starter", "plain", words={"poetic": -0.5})
    assert [pllm.name for pllm in client.pllms(words={"poetic": -0.4})] == ["plain"]
    assert [base.name for base in client.bases()] == ["starter"]
    assert len(list(client.jobs())) == len(list(client.jobs(state="succeeded"))) == 8
    assert not list(client.jobs(state="failed"))


def test_answers_are_read_page_by_page(fake: FakeServer, connect: Connect) -> None:
    fake.add("starter", "poetic")
    client = connect()
    found = list(client.answers("starter", "poetic"))
    assert (len(found), found[0].base == found[0].pllm) == (40, False)
    with pytest.raises(NotFoundError, match="nobody"):
        list(client.answers("starter", "nobody"))


def test_a_style_space_comes_back_as_it_went(connect: Connect, tmp_path: Path, fake: FakeServer) -> None:
    path = tmp_path / "mine.space.safetensors"
    default_space().save(path)
    client = connect()
    body = client.add_space(path)
    assert [space.digest for space in client.spaces()] == [body.digest]
    assert StyleSpace.load(client.space(body.digest)).digest == body.digest
    n = len(fake.seen)
    assert client.space(body.digest).exists()
    assert len(fake.seen) == n, "an immutable thing is asked for once"


def test_a_style_space_is_built_from_exemplars(fake: FakeServer, connect: Connect, tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "prompt": "p", "style": style, "text": f"{style} {n}"} for n in (1, 2) for style in ("neutral", "brisk")
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    client = connect()
    job = client.build_space(path, name="mine", version=2)
    assert client.build_space(path, name="mine", version=2).id == job.id
    digest = client.wait(job.id).result["space"]
    space = StyleSpace.load(client.space(digest))
    assert (space.name, space.version, space.words) == ("mine", 2, ("brisk",))
    probes = tmp_path / "probes.txt"
    probes.write_text("Why is it late?\nWhat is tea?\nWho sings?\nName a hat.\n")
    with_probes = client.build_space(path, name="mine", version=2, probes=probes)
    (sent,) = [blob for blob in fake.state.blobs.values() if b"Name a hat." in blob]
    assert (client.wait(with_probes.id).state, json.loads(sent)["probes"][1]) == ("succeeded", "What is tea?")
    n = len(fake.seen)
    probes.write_text("Why is it late?\nWhy is it late?\n")
    with pytest.raises(InputError, match=r"there are 2, expected 4 to 1000; some are there twice"):
        client.build_space(path, name="mine", version=2, probes=probes)
    with pytest.raises(InputError, match=r"No exemplars are in the style 'slow'\. There are brisk"):
        client.build_space(path, name="mine", words=["brisk", "slow"])
    path.write_text(json.dumps({**rows[0], "text": 1}))
    with pytest.raises(InputError, match="lack texts"):
        client.build_space(path, name="mine")
    with pytest.raises(InputError, match="No Name"):
        client.build_space(path, name="No Name")
    assert len(fake.seen) == n
    path.write_text(json.dumps(rows[0]))
    with pytest.raises(InputError, match="no style beside neutral"):
        client.wait(client.build_space(path, name="mine").id)


def test_a_style_space_is_built_from_words_alone(fake: FakeServer, connect: Connect) -> None:
    client = connect()
    job = client.build_space(None, name="few", words=["poetic", "concise"])
    assert StyleSpace.load(client.space(client.wait(job.id).result["space"])).words == ("concise", "poetic")
    with pytest.raises(MismatchError, match="wants the sentence encoder 'other'"):
        client.build_space(None, name="few", encoder="other")


def test_explanations_and_merges_are_jobs(fake: FakeServer, connect: Connect) -> None:
    fake.add("starter", "poetic", words={"poetic": 0.8})
    fake.add("starter", "concise", words={"concise": 0.6})
    client = connect()
    job = client.merge("starter", "mix", {"poetic": 0.5, "concise": 0.5})
    assert client.wait(job.id).result == {"pllm": "starter/mix"}
    mixed = client.pllm("starter", "mix")
    assert {w.word: round(w.coefficient, 2) for w in mixed.explanation.words[:2]} == {"poetic": 0.4, "concise": 0.3}
    assert [source.pllm for source in mixed.merged_from] == ["poetic", "concise"]
    first = client.explain("starter", "poetic")
    assert client.explain("starter", "poetic").id == first.id
    assert set(client.wait(client.explain("starter").id).result) == {"poetic", "concise", "mix"}


def test_what_the_server_would_refuse_is_refused_here(fake: FakeServer, connect: Connect, adapter: Path, tmp_path: Path) -> None:
    client = connect()
    with pytest.raises(InputError, match="Formal EN"):
        client.push(adapter, "starter", "Formal EN")
    with pytest.raises(InputError, match="weight"):
        client.merge("starter", "mix", {"poetic": 99.0})
    for wrong in ("../etc", "a/b", "", "?x"):
        with pytest.raises(InputError, match="No name"):
            client.pllm("starter", wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="adapter_config"):
        client.push(tmp_path / "empty", "starter", "mine")
    (tmp_path / "empty" / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeFileError, match="pickled"):
        client.push(tmp_path / "empty", "starter", "mine")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(FileFormatError, match="cut"):
        client.push(adapter, "starter", "mine")
    assert fake.seen == []


def test_errors_are_those_of_the_server(fake: FakeServer, connect: Connect) -> None:
    client = connect()
    fake.faults.append(Fault(error=MismatchError("The base differs.")))
    with pytest.raises(MismatchError, match=r"^The base differs\.") as caught:
        client.version()
    assert "fake" in caught.value.__notes__[0]
    fake.faults.append(Fault(status=404))
    with pytest.raises(NotFoundError, match="address of an XPerT server"):
        client.version()


def test_another_server_is_noticed(connect: Connect, fake: FakeServer) -> None:
    fake.faults.append(Fault(path="/version", damage=True))
    with pytest.raises(FileFormatError, match="REST v1"):
        connect().version()


def test_a_lost_answer_to_a_deletion_is_no_error(fake: FakeServer, connect: Connect) -> None:
    fake.add("starter", "mine")
    fake.faults.append(Fault(path="/v1/pllms/starter/mine", cut_after=-1))
    client = connect()
    client.delete("starter", "mine")
    with pytest.raises(NotFoundError):
        client.delete("starter", "mine")


def test_an_upload_is_repeated_and_signed_anew(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    client = connect()
    client.add_base("starter", "starter:base")
    fake.faults += [Fault(path="/store/", status=503), Fault(path="/store/", status=403)]
    assert client.push(adapter, "starter", "mine").quarantined is None


def test_an_upload_goes_on_where_it_was_cut(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    place, size = f"/store/{sha256_hex(weights.read_bytes())}", weights.stat().st_size
    cut, fine = Fault(path=place, cut_body=20_000), Fault(path=place)
    # Five cuts, more than the four attempts: those count anew as long as bytes arrive.
    fake.faults += [cut, fine, cut, fine, cut, fine, cut, cut]
    told: list[int] = []
    client = connect()
    client.upload_adapter(adapter, progress=lambda done, _: told.append(done))
    sent = [(seen.method, seen.headers.get("upload-offset")) for seen in fake.seen if seen.path == place]
    looked = ("HEAD", None)
    expected = ["20000", "40000", "60000", "80000", "100000"]
    patches = [("PATCH", offset) for offset in expected]
    assert sent == [("PUT", None), looked, patches[0], looked, patches[1], looked, patches[2], patches[3], looked, patches[4]]
    assert int(next(s for s in reversed(fake.seen) if s.path == place).headers["content-length"]) == size - 100_000
    assert told[-1] == sum(path.stat().st_size for path in adapter.iterdir())
    assert not any("authorization" in seen.headers for seen in fake.seen if seen.path == place)
    again = connect()
    fake.state.blobs.clear()
    fake.state.parts[place.removeprefix("/store/")] = weights.read_bytes()[:50_000]
    fake.seen.clear()
    again.upload_adapter(adapter)
    sent = [(seen.method, seen.headers.get("upload-offset")) for seen in fake.seen if seen.path == place]
    assert sent == [("PATCH", "50000")], "another process goes on as well"


def test_an_upload_whose_answer_was_lost_or_whose_parts_went(fake: FakeServer, connect: Connect, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    digest = sha256_hex(weights.read_bytes())
    fake.faults += [Fault(path=f"/store/{digest}", cut_body=20_000), Fault(path=f"/store/{digest}", status=404)]
    client = connect()
    with pytest.raises(NotFoundError):
        client.upload_adapter(adapter)
    fake.state.parts.clear()
    fake.faults += [Fault(path=f"/store/{digest}", cut_after=-1)]
    client.upload_adapter(adapter)
    assert digest in fake.state.blobs


class TestJobs:
    def test_progress_comes_by_events(self, connect: Connect, fake: FakeServer) -> None:
        fake.state.job_steps = 4
        job = fake.add("starter", "mine").job
        told: list[int] = []
        assert connect().wait(job, progress=lambda done, _: told.append(done)).state == "succeeded"
        assert told == sorted(told)
        assert set(told) == set(range(5))
        assert [seen.path for seen in fake.seen] == [f"/v1/jobs/{job}", f"/v1/jobs/{job}/events", f"/v1/jobs/{job}"]

    @pytest.mark.parametrize("fault", [Fault(status=404), Fault(status=502), Fault(cut_after=300), Fault(damage=True)])
    def test_and_by_asking_where_events_do_not_come(self, connect: Connect, fake: FakeServer, fault: Fault) -> None:
        fake.state.job_steps = 4
        job = fake.add("starter", "mine").job
        values = {key: getattr(fault, key) for key in ("status", "cut_after", "damage")}
        fake.faults.append(Fault(path=f"/v1/jobs/{job}/events", **values))
        assert connect().wait(job, poll=0).state == "succeeded"

    def test_a_failed_one_raises_its_error(self, connect: Connect, fake: FakeServer) -> None:
        job = fake.add("starter", "mine").job or ""
        broken = {"state": "failed", "code": "storage", "error": "The disk is full."}
        fake.state.jobs[job] = fake.state.jobs[job].model_copy(update=broken)
        with pytest.raises(StorageError, match=r"explain starter/mine\) failed: The disk is full"):
            connect().wait(job)

    def test_a_cancelled_one_says_so(self, connect: Connect, fake: FakeServer) -> None:
        fake.state.job_steps = 4
        job = fake.add("starter", "mine").job
        client = connect()
        client.cancel(job)
        with pytest.raises(ConflictError, match="cancelled"):
            client.wait(job)

    def test_one_that_takes_too_long_goes_on(self, connect: Connect, fake: FakeServer) -> None:
        fake.state.job_steps = 4
        job = fake.add("starter", "mine").job
        with pytest.raises(UnavailableError, match="goes on"):
            connect().wait(job, timeout=0)
