"""The one module that talks to the Kubernetes API."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace, Secret
from lightkube.resources.core_v1 import Event as ClusterEvent
from lightkube.types import PatchType
from pydantic import BaseModel

from xpert.core.errors import NotFoundError
from xpert_operator.mirror import Body, Key
from xpert_operator.reconcile.views import Event
from xpert_operator.resources import BASE_MODEL, GROUP, KINDS, PLLM, VERSION

PAGE = 500
SERVED, IN_USE = f"{GROUP}/server", f"{GROUP}/in-use"
MANAGER = "xpert-operator"
RESOURCES: dict[str, Any] = {
    kind.name: (create_namespaced_resource if kind.is_namespaced else create_global_resource)(
        GROUP, VERSION, kind.name, kind.plural
    )
    for kind in KINDS
}


def finalizer(kind: str) -> str:
    """Return our finalizer: a pLLM stays until the server's copy is gone, the others until no resource refers to them."""
    return SERVED if kind == PLLM.name else IN_USE


class Cluster:
    """Reads and writes resources.

    Parameters
    ----------
    client
        Of the API server.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def listing(self, kind: str, namespace: str | None, take: Callable[[Body], None]) -> int:
        """List the resources of a kind, by pages, of all namespaces where none is named; returns the listing's version."""
        place: dict[str, Any] = {} if kind == BASE_MODEL.name else {"namespace": namespace or "*"}
        found = self._client.list(RESOURCES[kind], chunk_size=PAGE, **place)
        async for item in found:
            take({**item.to_dict(), "kind": kind})
        return int(found.resourceVersion)

    async def is_defined(self, kind: str, namespace: str | None) -> bool:
        """Tell whether the API server knows a kind."""
        place: dict[str, Any] = {} if kind == BASE_MODEL.name else {"namespace": namespace or "*"}
        try:
            async for _ in self._client.list(RESOURCES[kind], chunk_size=1, **place):
                break  # one page of one resource is enough to know
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 404:  # in plain text where the whole group is unknown, so no ApiError
                return False
            raise
        return True

    async def write_status(self, key: Key, body: Body, status: BaseModel) -> Body:
        """Replace a resource's status and return the resource; refused where it is no longer the one that was looked at."""
        # Not the uid: at /status of custom resources the API server does not look at it. One that came anew has another version.
        version = {"resourceVersion": body["metadata"]["resourceVersion"]}
        wanted = {"metadata": version, "status": status.model_dump(mode="json", by_alias=True)}
        return await self._patch(RESOURCES[key.kind].Status, key, wanted)

    async def set_finalizer(self, key: Key, body: Body, *, is_on: bool) -> Body:
        """Put our finalizer on a resource, or take it off; refused where somebody else changed it meanwhile."""
        ours = finalizer(key.kind)
        others = [name for name in body["metadata"].get("finalizers") or [] if name != ours]
        wanted = [*others, ours] if is_on else others
        metadata = {"finalizers": wanted, "resourceVersion": body["metadata"]["resourceVersion"]}
        return await self._patch(RESOURCES[key.kind], key, {"metadata": metadata})

    async def delete(self, key: Key) -> None:
        """Delete a resource; that it is gone already is no error."""
        try:
            await self._client.delete(RESOURCES[key.kind], key.name, namespace=key.namespace or None)
        except ApiError as error:
            if error.status.code != 404:
                raise

    async def secret(self, namespace: str, name: str) -> dict[str, str]:
        """Read a Secret's data, without the line's end that `echo` put behind many a key.

        Raises
        ------
        NotFoundError
            There is none.
        """
        found = await self._get(Secret, namespace, name, "Secret")
        # A Secret may hold other things as well, which need not be text.
        return {key: base64.b64decode(value).decode(errors="replace").strip() for key, value in (found.data or {}).items()}

    async def config_map(self, namespace: str, name: str, key: str) -> str:
        """Read a key of a ConfigMap.

        Raises
        ------
        NotFoundError
            There is none, or not this key.
        """
        data = (await self._get(ConfigMap, namespace, name, "ConfigMap")).data or {}
        if key not in data:
            raise NotFoundError(f"The ConfigMap '{name}' has no key '{key}', found {', '.join(sorted(data)) or 'none'}.")
        text: str = data[key]
        return text

    async def namespace_ends(self, name: str) -> bool:
        """Tell whether a namespace is being deleted."""
        try:
            found = await self._client.get(Namespace, name)
        except ApiError as error:
            if error.status.code == 404:
                return True
            raise
        return bool(found.metadata and found.metadata.deletionTimestamp)

    async def tell(self, key: Key, body: Body, event: Event) -> None:
        """Post an event on a resource."""
        now = datetime.now(UTC)
        namespace = key.namespace or "default"
        target = ObjectReference(
            apiVersion=f"{GROUP}/{VERSION}",
            kind=key.kind,
            name=key.name,
            namespace=key.namespace or None,
            uid=body["metadata"].get("uid"),
        )
        posted = ClusterEvent(
            metadata=ObjectMeta(name=f"{key.name}.{secrets.token_hex(8)}", namespace=namespace),
            involvedObject=target,
            reason=event.reason,
            message=event.message[:1024],
            type="Warning" if event.is_warning else "Normal",
            source=EventSource(component=MANAGER),
            reportingComponent=MANAGER,
            firstTimestamp=now,
            lastTimestamp=now,
            count=1,
        )
        try:
            await self._client.create(posted)
        except ApiError as error:
            if error.status.code not in {403, 404}:  # the namespace is ending: nobody is there to read it
                raise

    async def _get(self, resource: Any, namespace: str, name: str, kind: str) -> Any:
        try:
            return await self._client.get(resource, name, namespace=namespace)
        except ApiError as error:
            if error.status.code == 404:
                raise NotFoundError(f"There is no {kind} '{name}' in namespace '{namespace}'. Make it.") from error
            raise

    async def _patch(self, resource: Any, key: Key, body: dict[str, Any]) -> Body:
        found: Any = await self._client.patch(
            resource, key.name, body, namespace=key.namespace or None, patch_type=PatchType.MERGE, field_manager=MANAGER
        )
        answered: Body = found.to_dict()
        return {**answered, "kind": key.kind}
