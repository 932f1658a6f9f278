"""REST v1 over the services (docs/adr/0006-rest.md)."""

from xpert_services.api.app import create_app, document
from xpert_services.api.gate import Limits

__all__ = ["Limits", "create_app", "document"]
