"""The watch: kopf brings every change of a resource, and of nothing else, into the mirror."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf

from xpert_operator.mirror import CONFIG_MAP, SECRET, Key, Mirror
from xpert_operator.resources import GROUP, KINDS, VERSION

WATCHED = f"{GROUP}/watch"
"""Label of Secrets and ConfigMaps whose changes are to count at once; the others are read when they are needed."""

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Backoffs:
    """Pauses between two attempts to reach the API server: an operator that gives up has to be started again by somebody."""

    def __iter__(self) -> Iterator[float]:
        """Give the pauses, without an end."""
        return itertools.chain((1, 1, 2, 3), itertools.repeat(5))


def registry(mirror: Mirror, *, watch_secrets: bool) -> kopf.OperatorRegistry:
    """Return kopf's registry: one handler of raw events for each kind.

    Handlers of changes would write annotations and a finalizer of kopf's own; what is to be done is decided from how things are,
    not from what changed, so none is needed.
    """
    found = kopf.OperatorRegistry()

    # Kopf looks for credentials of every client library that is installed; these are the operator's own two ways.
    @kopf.on.login(registry=found)
    def login(**given: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**given) if ACCOUNT.exists() else kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=found)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300
        settings.watching.reconnect_backoff = 0.5
        settings.networking.error_backoffs = Backoffs()
        for plural in ("secrets", "configmaps"):
            settings.watching.label_selectors["v1", plural] = f"{WATCHED}=true"

    for kind in KINDS:

        @kopf.on.event(GROUP, VERSION, kind.plural, registry=found)
        async def take(event: Any, **_: Any) -> None:  # async: the others run in threads
            body = event["object"]
            if event["type"] == "DELETED":
                mirror.drop(body)
            else:
                mirror.put(body)

    for kind_name, plural in ((SECRET, "secrets"), (CONFIG_MAP, "configmaps")) if watch_secrets else ():

        @kopf.on.event("v1", plural, registry=found, param=kind_name)
        async def touch(*, namespace: str | None, name: str, param: Any = None, **_: Any) -> None:
            mirror.touch(Key(param, namespace or "", name))

    return found
