"""What goes wrong around the operator: the server away, the API server away, another replica, somebody else's writes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cluster_cases import DIGEST, Operator, Site, Space, merge, operating, resource, starter, until
from control_plane import ControlPlane
from local_cluster import defined
from server_cases import serving

from xpert.core import data

pytestmark = pytest.mark.slow

QUICK = (str(Path(__file__).with_name("quick_server.py")),)
LEASE_S = 6


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own, as it is ended and started again."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
        yield found


@pytest.fixture
def worker(plane: ControlPlane, site: Site, space: Space, tmp_path: Path) -> Iterator[Operator]:
    """An operator for the test's namespace, with a lease as in production; it outlasts an API server that starts anew."""
    lease = ("--lease", "xpert-operator", "--lease-namespace", space.name, "--lease-s", "120")
    options = ("--namespace", space.name, "--watch-secrets", *lease)
    with operating(plane.kubeconfig, site.url, site.token, tmp_path / "log", *options) as found:
        yield found


def named(name: str, style: str, **spec: Any) -> dict[str, Any]:
    body = starter(style, **spec)
    body["metadata"]["name"] = name
    return body


def test_the_server_goes_and_comes_back(plane: ControlPlane, space: Space, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        options = ("--rate", "100000/minute", "--port", str(probe.getsockname()[1]))
    token = tmp_path / "token"
    token.touch(mode=0o600)
    with ExitStack() as server:
        url, said = server.enter_context(serving(tmp_path, *options, program=QUICK))
        token.write_text(said[0].rsplit(" ", 1)[1])
        with operating(plane.kubeconfig, url, token, tmp_path / "log", "--namespace", space.name, "--drift-s", "1") as running:
            space.apply(named("first", "concise"))
            (before,) = space.ready("first")
            server.close()
            space.apply(named("second", "poetic"))
            assert "could not be asked" in space.reason("second", "ServerAway", "Stored")
            assert space.condition("second", "Stored")["status"] == "Unknown"
            assert (space.get("first") or {})["status"] == before["status"], "what stands in the catalogue stays Ready"
            with serving(tmp_path, *options, program=QUICK):
                space.ready("first", "second")
            assert running.process.poll() is None
    assert "ServerAway" not in space.events("first")


def test_the_api_server_ends_and_is_started_again(plane: ControlPlane, space: Space, worker: Operator) -> None:
    space.apply(named("first", "concise"))
    space.ready("first")
    plane.stop_api_server(kill=True)
    plane.start_api_server()
    space.apply(named("second", "poetic"))
    space.ready("first", "second")
    plane.stop_api_server()
    plane.start_api_server()
    space.delete("first")
    space.gone("first")
    assert worker.process.poll() is None


def test_a_restarted_operator_finds_everything_as_it_was(
    plane: ControlPlane, space: Space, site: Site, worker: Operator, tmp_path: Path
) -> None:
    space.apply(named("first", "concise"), named("second", "poetic"), merge("mix", ("first", 0.5), ("second", 0.5)))
    before = space.ready("first", "second", "mix")
    worker.kill()
    with operating(
        plane.kubeconfig, site.url, site.token, tmp_path / "next", "--namespace", space.name, "--drift-s", "1"
    ) as fresh:
        space.apply(named("third", "formal"))
        space.ready("third")
        again = space.ready("first", "second", "mix")
        # Not so much as a condition was written anew: nobody who waits for Ready sees it go.
        assert [body["status"]["conditions"] for body in again] == [body["status"]["conditions"] for body in before]
        assert not [line for line in fresh.lines() if "/first: " in line["message"]]


def test_one_of_two_works_and_the_other_takes_over(plane: ControlPlane, site: Site, space: Space, tmp_path: Path) -> None:
    options = ("--namespace", space.name, "--lease", "xpert-operator", "--lease-namespace", space.name, "--lease-s", str(LEASE_S))

    def leads(running: Operator) -> bool:
        return any(line["message"].startswith("Leading") for line in running.lines())

    def replica(name: str) -> Any:
        return operating(plane.kubeconfig, site.url, site.token, tmp_path / name, *options, "--identity", name)

    with replica("a") as a, ExitStack() as later:
        until(lambda: leads(a), a.lines)
        b = later.enter_context(replica("b"))
        space.apply(named("first", "concise"))
        space.ready("first")
        assert not leads(b)
        a.kill()
        began = time.monotonic()
        space.apply(named("second", "poetic"))
        until(lambda: leads(b), b.lines)
        killed_s = time.monotonic() - began
        space.ready("second")
        with replica("c") as c:
            until(lambda: bool(c.lines()), c.lines)
            later.close()  # asked to end, it gives the lease back
            began = time.monotonic()
            until(lambda: leads(c), c.lines)
            ended_s = time.monotonic() - began
            space.delete("first")
            space.gone("first")
    print(f"lease {LEASE_S} s: taken over {killed_s:.1f} s after SIGKILL, {ended_s:.1f} s after the end")
    assert killed_s > LEASE_S / 3, "before the lease had run out"
    for name in ("first", "second"):
        assert space.events(name).count("Stored") == 1
        assert space.events(name).count("Explained") == 1


def test_others_write_to_the_same_resource(plane: ControlPlane, space: Space, worker: Operator) -> None:
    space.apply(named("first", "concise"))
    patch = {"metadata": {"finalizers": ["example.com/theirs"]}}
    plane.kubectl("patch", "-n", space.name, "pllm", "first", "--type=merge", "-p", json.dumps(patch))
    for number in range(20):
        plane.kubectl("annotate", "-n", space.name, "pllm", "first", "--overwrite", f"example.com/number={number}")
    space.ready("first")
    found = space.get("first") or {}
    assert found["metadata"]["annotations"]["example.com/number"] == "19"
    until(lambda: "xpert.dev/server" in (space.get("first") or {})["metadata"]["finalizers"], lambda: space.get("first"))
    plane.kubectl("patch", "-n", space.name, "pllm", "first", "--subresource=status", "--type=merge", "-p", '{"status": null}')
    plane.kubectl("patch", "-n", space.name, "pllm", "first", "--type=merge", "-p", '{"spec": {"publish": false}}')
    space.reason("first", "Unlisted", "Published")
    space.delete("first")
    until(
        lambda: (space.get("first") or {})["metadata"]["finalizers"] == ["example.com/theirs"],
        lambda: space.get("first"),
    )
    plane.kubectl("patch", "-n", space.name, "pllm", "first", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    space.gone("first")


def test_deletion_in_every_order(space: Space, site: Site, worker: Operator) -> None:
    orders = list(itertools.permutations("abm"))
    for n in range(len(orders)):
        space.apply(named(f"a{n}", "concise"), named(f"b{n}", "poetic"), merge(f"m{n}", (f"a{n}", 0.5), (f"b{n}", 0.5)))
    for n in range(len(orders)):
        until(lambda n=n: space.condition(f"m{n}", "Stored")["status"] == "True", lambda n=n: space.get(f"m{n}"))
    for n, order in enumerate(orders):
        for letter in order:
            space.delete(f"{letter}{n}")
    space.gone(*(f"{letter}{n}" for n in range(len(orders)) for letter in "abm"))
    with site.client() as client:
        assert not [pllm.name for pllm in client.pllms("starter") if pllm.name.startswith(f"{space.name}.")]


def test_a_namespace_ends_with_all_that_is_in_it(plane: ControlPlane, space: Space, worker: Operator) -> None:
    space.apply(named("a", "concise"), named("b", "poetic"), merge("m", ("a", 0.5), ("b", 0.5)))
    space.ready("a", "b")
    plane.kubectl("delete", "namespace", space.name, "--wait=false")
    until(
        lambda: not plane.kubectl("get", "namespace", space.name, "--ignore-not-found").stdout,
        lambda: plane.kubectl("get", "pllm", "-n", space.name, "-o", "json", check=False).stdout,
    )
    plane.kubectl("create", "namespace", space.name)  # for the fixture, which deletes it


def test_a_secret_that_comes_later_counts_at_once(plane: ControlPlane, space: Space, worker: Operator) -> None:
    body = named("first", "concise")
    body["spec"]["adapter"]["secretRef"] = {"name": "late"}
    space.apply(body)
    assert "no Secret 'late'" in space.reason("first", "NotFound", "Stored")
    secret = json.loads(plane.kubectl("get", "secret", "bucket", "-n", space.name, "-o", "json").stdout)
    late = {"name": "late", "labels": {"xpert.dev/watch": "true"}}
    space.apply({"apiVersion": "v1", "kind": "Secret", "metadata": late, "data": secret["data"]})
    space.ready("first")


def exemplars(*styles: str, version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A ConfigMap with texts, and the style space of them."""
    texts = [dataclasses.asdict(text) for text in data.exemplars() if text.style in {"neutral", *styles}]
    lines = "".join(f"{json.dumps(text)}\n" for text in texts)
    name = f"texts-{version}"
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"e.jsonl": lines}}
    spec = {"baseModel": {"name": "starter"}, "version": version, "exemplars": {"configMap": {"name": name, "key": "e.jsonl"}}}
    return found, resource("StyleSpace", "words", spec)


def test_a_style_space_is_words_alone_and_an_encoder_that_the_server_lacks_is_said(space: Space, worker: Operator) -> None:
    spec = {"baseModel": {"name": "starter"}, "version": 1, "words": ["poetic", "concise"]}
    space.apply(resource("StyleSpace", "few", spec), resource("StyleSpace", "odd", {**spec, "encoder": "no/such-encoder"}))
    space.apply(resource("StyleSpace", "wrong", {**spec, "words": ["poetic", "grumpy"]}))
    space.ready("few", kind="sspace")
    assert set((space.get("few", "sspace") or {})["status"]["words"]) == {"poetic", "concise"}
    assert "the sentence encoder 'no/such-encoder'" in space.reason("odd", "Mismatch", "Stored", kind="sspace")
    assert "No exemplars are in the style 'grumpy'" in space.reason("wrong", "BadInput", "Stored", kind="sspace")


def test_a_style_space_is_built_and_replaced_while_the_old_one_serves(space: Space, site: Site, worker: Operator) -> None:
    names = ("first", "second")
    space.apply(*exemplars("poetic", "concise", version=1))
    space.apply(named("first", "concise", styleSpace={"name": "words"}), named("second", "poetic", styleSpace={"name": "words"}))
    lost = {"uri": "s3://adapters/nowhere", "digest": DIGEST, "secretRef": {"name": "bucket"}}
    space.apply(named("broken", "formal", adapter=lost, styleSpace={"name": "words"}))  # it does not hold up the others
    space.ready("words", kind="sspace")
    before = space.ready(*names)
    old = (space.get("words", "sspace") or {})["status"]["current"]
    assert old["version"] == 1
    assert {word["word"] for word in before[0]["status"]["words"]} == {"poetic", "concise"}

    space.apply(*exemplars("poetic", "concise", "formal", version=2))
    seen: list[tuple[int, int | None, int]] = []
    with site.client() as client:
        while not seen or seen[-1][:2] != (2, None):
            assert len(seen) < 400, seen
            status = (space.get("words", "sspace") or {})["status"]
            stands = status["current"]["version"], (status.get("next") or {}).get("version"), status["explained"]
            if not seen or seen[-1] != stands:
                seen.append(stands)
            served = client.catalogue_info("starter", space=old["digest"]).pllms
            assert {f"{space.name}.{name}" for name in names} <= set(served), "the old catalogue lost one"
            assert {space.condition(name)["status"] for name in names} == {"True"}, "who waits for Ready sees it go"
    assert any(stands[:2] == (1, 2) for stands in seen), seen
    assert all(current == 1 for current, coming, _ in seen if coming == 2), seen
    after = space.ready(*names)
    new = (space.get("words", "sspace") or {})["status"]["current"]
    assert {body["status"]["styleSpace"] for body in after} == {new["digest"]}
    assert {word["word"] for word in after[0]["status"]["words"]} == {"poetic", "concise", "formal"}
    print(f"versions served and coming, explained: {seen}")
