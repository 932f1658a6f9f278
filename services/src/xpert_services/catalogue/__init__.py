"""Catalogues: built once a change, kept by version, served from memory."""

from xpert_services.catalogue.catalogues import Built, Catalogues

__all__ = ["Built", "Catalogues"]
