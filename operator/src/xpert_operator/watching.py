"""The watch: kopf brings every change of a resource, and of nothing else, into the mirror."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from xpert_operator.mirror import Body, Mirror
from xpert_operator.resources import GROUP, KINDS, VERSION

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def registry(mirror: Mirror, gone: Callable[[Body], None]) -> kopf.OperatorRegistry:
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

    for kind in KINDS:

        @kopf.on.event(GROUP, VERSION, kind.plural, registry=found)
        async def take(event: Any, **_: Any) -> None:  # async: the others run in threads
            body = event["object"]
            if event["type"] == "DELETED":
                mirror.drop(body)
                gone(body)
            else:
                mirror.put(body)

    return found
