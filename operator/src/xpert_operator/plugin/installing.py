"""`kubectl xpert install` and `uninstall`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from lightkube.codecs import resource_registry
from lightkube.core.exceptions import ApiError, LoadResourceError
from lightkube.generic_resource import load_in_cluster_generic_resources
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Namespace, ServiceAccount
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from lightkube.types import PatchType

from xpert.cli.output import JsonOption, Output
from xpert.core.errors import ConflictError, InputError, NotFoundError
from xpert_operator.plugin import manifests
from xpert_operator.plugin.access import (
    OPERATOR_NAMESPACE,
    RESOURCES,
    Access,
    Body,
    ContextOption,
    KubeconfigOption,
    access,
    knows_no_kind,
)
from xpert_operator.plugin.telling import condition
from xpert_operator.resources import BASE_MODEL, GROUP, KINDS, PLLM, STYLE_SPACE

OPERATOR_PART: dict[str, Any] = {"app.kubernetes.io/part-of": "xpert", "app.kubernetes.io/component": "operator"}
IN_NAMESPACE: tuple[Any, ...] = (Deployment, PodDisruptionBudget, RoleBinding, Role, ServiceAccount)
IN_CLUSTER: tuple[Any, ...] = (ClusterRoleBinding, ClusterRole)
MAKERS = {"ray.io": "KubeRay", "monitoring.coreos.com": "the Prometheus operator"}
LEFT = "the bucket with the server's store (adapters, explanations, catalogues): delete it where it is, if it is not wanted"

OperatorNamespace = Annotated[str, typer.Option("--operator-namespace", help="Where the operator and the server are.")]


def install(
    overlay: Annotated[
        str | None,
        typer.Option(help="Operator and server too: production, production-kuberay, or a folder with a kustomization of yours."),
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="The k8s folder of a clone; without, what this plugin brings.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take over fields that somebody else set.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json_: JsonOption = False,
) -> None:
    """Apply the resources' definitions and, by --overlay, the operator and the server. Running it again upgrades."""
    output, root = Output(as_json=json_), manifests.folder(from_)
    wanted = manifests.definitions(root)
    if overlay:
        wanted += [body for body in manifests.rendered(root, overlay) if body["kind"] != "CustomResourceDefinition"]
    with access(kubeconfig, context) as cluster:
        _check_kinds(cluster, wanted)
        for body in wanted:
            meta = body["metadata"]
            kind: Any = resource_registry.load(body["apiVersion"], body["kind"])
            cluster.client.patch(
                kind, meta["name"], body, namespace=meta.get("namespace"), patch_type=PatchType.APPLY, force=force
            )
            output.say(f"applied {_named(body)}")
        for found in KINDS:
            cluster.client.wait(CustomResourceDefinition, f"{found.plural}.{GROUP}", for_conditions=["Established"])
    for problem in manifests.placeholders(wanted):
        output.warn(f"Set this in the overlay before it can work: {problem}.")
    output.show({"applied": [_named(body) for body in wanted]})


def uninstall(
    everything: Annotated[bool, typer.Option("--everything", help="All resources, definitions and the namespace too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    let_go: Annotated[
        bool, typer.Option("--let-go", help="With --everything, where no operator runs: leave the server's copies behind.")
    ] = False,
    patience: Annotated[float, typer.Option(help="Seconds that the operator gets to delete the server's copies.")] = 120.0,
    operator_namespace: OperatorNamespace = OPERATOR_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json_: JsonOption = False,
) -> None:
    """Remove the operator and its roles; the server goes on serving phones. What is left is said."""
    output = Output(as_json=json_)
    with access(kubeconfig, context) as cluster:
        there = {kind.plural: sum(1 for _ in _listed(cluster, kind.name)) for kind in KINDS}
        if everything:
            _ask(there, operator_namespace, yes=yes)
            _delete_pllms(cluster, output, patience, let_go=let_go)
        gone = list(_delete_operator(cluster, operator_namespace))
        if everything:
            _delete_kept(cluster)
            gone += _delete_rest(cluster, operator_namespace)
    left = [LEFT]
    if not everything:
        counted = ", ".join(f"{n} {plural}" for plural, n in there.items())
        left = [
            f"the definitions, with {counted}: what of these is deleted now waits for an operator to come back",
            f"the namespace '{operator_namespace}' with its Secrets, and the server if it runs there: it goes on serving phones",
            LEFT,
        ]
    for name in gone or ["nothing: there is no operator of ours here"]:
        output.say(f"deleted {name}")
    for what in left:
        output.say(f"left    {what}")
    output.show({"deleted": gone, "left": left})


def _check_kinds(cluster: Access, wanted: list[Body]) -> None:
    """Find before anything is written what the cluster does not know."""
    load_in_cluster_generic_resources(cluster.client)
    missing = {}
    for body in wanted:
        try:
            resource_registry.load(body["apiVersion"], body["kind"])
        except LoadResourceError:
            group = body["apiVersion"].split("/")[0]
            missing[f"{body['kind']} ({body['apiVersion']})"] = MAKERS.get(group, f"whoever defines {group}")
    if missing:
        told = "; ".join(f"{kind} comes with {maker}" for kind, maker in missing.items())
        raise NotFoundError(f"This cluster does not know all of the overlay: {told}. Install that first; nothing was changed.")


def _ask(there: dict[str, int], namespace: str, *, yes: bool) -> None:
    if yes:
        return
    counted = ", ".join(f"{n} {plural}" for plural, n in there.items())
    question = (
        f"This deletes {counted} in all namespaces, with what the server has of those that say deletionPolicy: Delete; the "
        f"definitions; the operator; and the namespace '{namespace}' with everything in it. Go on?"
    )
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody is there to answer: give --yes.")
    typer.confirm(question, abort=True)


def _listed(cluster: Access, kind: str) -> Iterator[Body]:
    """Yield all of a kind; none where even the definition is gone."""
    try:
        yield from cluster.listed(kind, None)
    except httpx2.HTTPStatusError as error:
        if not knows_no_kind(error):
            raise


def _delete_pllms(cluster: Access, output: Output, patience: float, *, let_go: bool) -> None:
    """Delete all pLLMs and wait until the operator has let them go."""
    for namespace in sorted({body["metadata"]["namespace"] for body in _listed(cluster, PLLM.name)}):
        cluster.client.deletecollection(RESOURCES[PLLM.name], namespace=namespace)
    end = time.monotonic() + (0 if let_go else patience)
    while waiting := list(_listed(cluster, PLLM.name)):
        if let_go:
            _take_finalizers(cluster, waiting, PLLM.name)
            output.warn(f"The server's copies of {len(waiting)} pLLMs stay, as no operator deleted them: xpert ls shows them.")
            return
        if time.monotonic() > end:
            first = waiting[0]["metadata"]
            told = condition(waiting[0], "Ready").get("message") or "nobody has looked at it"
            raise ConflictError(
                f"{len(waiting)} pLLMs are not gone after {patience:.0f} s, such as {first['namespace']}/{first['name']}: {told} "
                "If no operator runs, --let-go leaves the server's copies behind. Nothing else was deleted yet."
            )
        time.sleep(0.5)


def _delete_kept(cluster: Access) -> None:
    """Delete style spaces and base models: no pLLM refers to them any more, and no operator is there to see it."""
    for kind in (STYLE_SPACE.name, BASE_MODEL.name):
        for body in list(_listed(cluster, kind)):
            meta = body["metadata"]
            with _gone_already():
                cluster.client.delete(RESOURCES[kind], meta["name"], namespace=meta.get("namespace"))
        _take_finalizers(cluster, list(_listed(cluster, kind)), kind)


def _take_finalizers(cluster: Access, bodies: list[Body], kind: str) -> None:
    for body in bodies:
        meta = body["metadata"]
        kept = [name for name in meta.get("finalizers") or [] if not name.startswith(f"{GROUP}/")]
        # Of what is being deleted nobody can add any: the uid alone says that it is still the same.
        patch = {"metadata": {"finalizers": kept, "uid": meta["uid"]}}
        with _gone_already():
            cluster.client.patch(
                RESOURCES[kind], meta["name"], patch, namespace=meta.get("namespace"), patch_type=PatchType.MERGE
            )


@contextmanager
def _gone_already() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status.code != 404:
            raise


def _delete_operator(cluster: Access, namespace: str) -> Iterator[str]:
    for kind in IN_NAMESPACE:
        for found in cluster.client.list(kind, namespace=namespace, labels=OPERATOR_PART):
            cluster.client.delete(kind, found.metadata.name, namespace=namespace)
            yield f"{kind.__name__} {namespace}/{found.metadata.name}"
    for kind in IN_CLUSTER:
        for found in cluster.client.list(kind, labels=OPERATOR_PART):
            cluster.client.delete(kind, found.metadata.name)
            yield f"{kind.__name__} {found.metadata.name}"


def _delete_rest(cluster: Access, namespace: str) -> Iterator[str]:
    names: list[tuple[Any, str]] = [(CustomResourceDefinition, f"{kind.plural}.{GROUP}") for kind in KINDS]
    for resource, name in [*names, (Namespace, namespace)]:
        with _gone_already():
            cluster.client.delete(resource, name)
            yield f"{resource.__name__} {name}"


def _named(body: Body) -> str:
    namespace = body["metadata"].get("namespace")
    return f"{body['kind']} {namespace + '/' if namespace else ''}{body['metadata']['name']}"
