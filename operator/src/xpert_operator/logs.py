"""The process's log: one JSON object a line."""

from __future__ import annotations

import logging

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

NOISY = ("httpx2", "kopf.objects", "stamina")


def configure() -> None:
    """Write to the standard error stream from now on."""
    handler = logging.StreamHandler()
    # Kopf hangs objects of its own on its records, which are no text.
    reserved = [*RESERVED_ATTRS, "settings", "k8s_ref", "k8s_skip"]
    handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True, reserved_attrs=reserved))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
