"""The one module of the plugin that talks to the Kubernetes API."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
import yaml
from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Event

from xpert.core.errors import (
    AccessError,
    ConflictError,
    InputError,
    NotFoundError,
    UnavailableError,
    XpertError,
)
from xpert_operator.resources import GROUP, KINDS, PLLM, VERSION

Body = dict[str, Any]

PAGE = 500
FIELD_MANAGER = "kubectl-xpert"
OPERATOR, OPERATOR_NAMESPACE = "xpert-operator", "xpert"

KubeconfigOption = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig; without, as kubectl finds it.")]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace; without, the context's.")]

RESOURCES: dict[str, Any] = {
    kind.name: (create_namespaced_resource if kind.is_namespaced else create_global_resource)(
        GROUP, VERSION, kind.name, kind.plural
    )
    for kind in KINDS
}


class Access:
    """Reads the resources.

    Parameters
    ----------
    client
        Of the API server.
    namespace
        The one that is meant where none is named.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace

    def listed(self, kind: str, namespace: str | None) -> Iterator[Body]:
        """Yield the resources of a kind; None: of all namespaces, or of the cluster."""
        place: dict[str, Any] = {"namespace": namespace or "*"} if kind != "BaseModel" else {}
        for found in self.client.list(RESOURCES[kind], chunk_size=PAGE, **place):
            yield found.to_dict()

    def find(self, kind: str, name: str, namespace: str) -> Body | None:
        """Return a resource, None where there is none of this name."""
        try:
            found = self.client.get(RESOURCES[kind], name, namespace=namespace if kind != "BaseModel" else None)
        except ApiError as error:
            if error.status.code != 404 or knows_no_kind(error):
                raise
            return None
        body: Body = found.to_dict()
        return body

    def needed(self, kind: str, name: str, namespace: str) -> Body:
        """Return a pLLM or a style space.

        Raises
        ------
        NotFoundError
            There is none.
        """
        found = self.find(kind, name, namespace)
        if found is None:
            others = "kubectl xpert status -A" if kind == PLLM.name else "kubectl get sspace -A"
            raise NotFoundError(f"There is no {kind} '{name}' in namespace '{namespace}'. What there is: {others}.")
        return found

    def events(self, kind: str, name: str, namespace: str) -> list[Body]:
        """Return the events on a resource, the latest last."""
        found = self.client.list(Event, namespace=namespace, fields={"involvedObject.name": name, "involvedObject.kind": kind})
        return sorted((event.to_dict() for event in found), key=lambda event: str(event.get("lastTimestamp")))

    def operator_renewed(self, namespace: str) -> datetime | None:
        """Return when the working operator last said that it lives; None where that cannot be told."""
        try:
            lease = self.client.get(Lease, OPERATOR, namespace=namespace)
        except ApiError as error:
            if error.status.code in {403, 404}:
                return None
            raise
        return lease.spec.renewTime if lease.spec else None


@contextmanager
def access(kubeconfig: Path | None, context: str | None, namespace: str | None = None) -> Iterator[Access]:
    """Reach the cluster as kubectl does; what goes wrong there is one of our errors."""
    with translated():
        config = _config(kubeconfig).get(context)
        if config is None:
            raise ConfigError("no context is set")
        with Client(config, timeout=httpx2.Timeout(20.0), field_manager=FIELD_MANAGER) as client:
            yield Access(client, namespace or config.namespace)


@contextmanager
def translated() -> Iterator[None]:
    """Raise one of our errors for one of the cluster's."""
    try:
        yield
    except ConfigError as error:
        raise InputError(
            f"No cluster to talk to: {error}. Set KUBECONFIG or give --kubeconfig FILE and --context NAME; what there is: "
            "kubectl config get-contexts."
        ) from error
    except httpx2.HTTPStatusError as error:
        raise _of(error) from error
    except httpx2.HTTPError as error:
        raise UnavailableError(
            f"The API server cannot be reached: {error or type(error).__name__}. Does `kubectl version` reach it?"
        ) from error


def _config(given: Path | None) -> KubeConfig:
    named = str(given) if given else os.environ.get("KUBECONFIG", "")
    if os.pathsep in named:  # several files, which kubectl knows how to merge
        return KubeConfig.from_dict(yaml.safe_load(kubectl("config", "view", "--raw", "--flatten")))
    return KubeConfig.from_file(named) if named else KubeConfig.from_env()


def kubectl(*arguments: str) -> str:
    """Return what kubectl prints.

    Raises
    ------
    NotFoundError
        There is no kubectl.
    InputError
        It refuses.
    """
    try:
        done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotFoundError("There is no kubectl on the PATH, which renders overlays. Install it: kubernetes.io/docs.") from error
    if done.returncode:
        raise InputError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _of(error: httpx2.HTTPStatusError) -> XpertError:
    code = error.response.status_code
    message = (error.status.message if isinstance(error, ApiError) else None) or str(error)
    if code == 401:
        return AccessError(f"The cluster does not know you: {message}. Renew the kubeconfig's credentials.")
    if code == 403:
        return AccessError(
            f"{message}. The roles xpert-view and xpert-edit come with Kubernetes' own view and edit; whoever runs the cluster "
            "gives them; installing wants an administrator of the cluster."
        )
    if knows_no_kind(error):
        return NotFoundError("This cluster has no XPerT resources: their definitions are missing. Run kubectl xpert install.")
    if code == 404:
        return NotFoundError(message)
    if code == 409:
        return ConflictError(f"{message}. Somebody else set these fields; --force takes them over.")
    if code in {429, 500, 502, 503, 504}:
        return UnavailableError(f"The API server is busy: {message}. Try again.")
    return InputError(f"The API server refused it: {message}")


def knows_no_kind(error: httpx2.HTTPStatusError) -> bool:
    """Whether the kind itself is missing: the answer names no resource, or is plain text where the group is missing."""
    details = error.status.details if isinstance(error, ApiError) else None
    return error.response.status_code == 404 and (details is None or not details.name)
