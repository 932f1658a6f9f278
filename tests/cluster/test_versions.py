"""A later version of the resources beside the present one: a stored object survives, with spec and status."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cluster_cases import pllm, until
from control_plane import ControlPlane
from local_cluster import defined

from xpert_operator.resources import GROUP, PLLM, VERSION
from xpert_operator.resources.crds import render

pytestmark = pytest.mark.slow

LATER = "v1alpha2"
STATUS = {
    "summary": "poetic 0.91",
    "strength": 1.234,
    "words": [{"word": "poetic", "coefficient": 0.91, "lower": 0.8, "upper": 1}],
}
STATUS["words"][0]["heldUp"] = True  # type: ignore[index]


def both(*, stored: str, everywhere: bool = True) -> dict[str, Any]:
    """The definition with a later version and one more optional field: in both schemas, or in the later one's alone."""
    found: dict[str, Any] = yaml.safe_load(render(PLLM))
    (present,) = found["spec"]["versions"]
    later = copy.deepcopy(present)
    later["name"] = LATER
    for version in (present, later) if everywhere else (later,):
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        spec["licence"] = {"type": "string", "description": "Licence of the adapter."}
    found["spec"]["versions"] = [{**version, "storage": version["name"] == stored} for version in (present, later)]
    return found


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own: kubectl goes on to ask for a version that it has seen once."""
    with defined(tmp_path_factory.mktemp("plane")) as found:
        yield found


@pytest.fixture
def versions(plane: ControlPlane) -> Any:
    yield lambda stored, everywhere: _define(plane, both(stored=stored, everywhere=everywhere))
    # Kubernetes lets a version go only when nothing is stored in it any more.
    _define(plane, both(stored=VERSION))
    status = json.dumps({"status": {"storedVersions": [VERSION]}})
    name = f"{PLLM.plural}.{GROUP}"
    plane.kubectl("patch", "crd", name, "--subresource=status", "--type=merge", "-p", status)
    _define(plane, yaml.safe_load(render(PLLM)))


def _define(plane: ControlPlane, definition: dict[str, Any]) -> None:
    text = json.dumps(definition)
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)
    plane.kubectl("wait", "--for=condition=Established", "crd", f"{PLLM.plural}.{GROUP}")


@pytest.mark.parametrize("everywhere", [True, False], ids=["in both schemas", "in the later one"])
def test_a_stored_object_survives_a_new_version(plane: ControlPlane, namespace: str, versions: Any, everywhere: bool) -> None:
    def ask(*arguments: str) -> str:
        """Ask again while the API server changes its handlers: for a moment it knows no version."""
        done = []
        until(
            lambda: not done.append(plane.kubectl(*arguments, check=False)) and not done[-1].returncode, lambda: done[-1].stderr
        )
        return str(done[-1].stdout)

    def read(version: str) -> dict[str, Any]:
        path = f"/apis/{GROUP}/{version}/namespaces/{namespace}/{PLLM.plural}/mine"
        found: dict[str, Any] = json.loads(ask("get", "--raw", path))
        assert found.pop("apiVersion") == f"{GROUP}/{version}"
        return found

    plane.kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(pllm()))
    patch = json.dumps({"status": STATUS})
    old = f"{PLLM.plural}.{VERSION}.{GROUP}"  # kubectl remembers versions that are gone: the short name may mean one
    ask("patch", "-n", namespace, old, "mine", "--subresource=status", "--type=merge", "-p", patch)
    before = read(VERSION)
    assert before["status"]["strength"] == 1.234

    versions(VERSION, everywhere)
    assert read(LATER)["spec"] == before["spec"] and read(LATER)["status"] == before["status"]

    versions(LATER, everywhere)  # from now on what is written is stored in the later one
    added = {"spec": {"licence": "Apache-2.0"}}
    ask("patch", "-n", namespace, f"{PLLM.plural}.{LATER}.{GROUP}", "mine", "--type=merge", "-p", json.dumps(added))
    assert read(LATER)["spec"] == {**before["spec"], **added["spec"]}
    through_the_old = read(VERSION)
    assert through_the_old["spec"] == {**before["spec"], **(added["spec"] if everywhere else {})}
    assert through_the_old["status"] == before["status"]

    # Whoever writes by the old version takes away what its schema does not have: a new field has to stand in both.
    ask("patch", "-n", namespace, old, "mine", "--type=merge", "-p", json.dumps({"spec": {"publish": False}}))
    assert read(LATER)["spec"] == {**through_the_old["spec"], "publish": False}
    plane.kubectl("delete", "-n", namespace, old, "mine")
