"""Alive, ready, which version."""

from __future__ import annotations

from fastapi import APIRouter, Response

from xpert import __version__
from xpert.core.errors import UnavailableError, XpertError
from xpert.wire import Version
from xpert_services.api.parts import PROBLEMS, Parts
from xpert_services.store.keys import LAYOUT

router = APIRouter(tags=["system"], responses=PROBLEMS)


@router.get("/healthz", status_code=204, response_class=Response)
def healthz() -> None:
    """Say that the process is alive."""


@router.get("/readyz", status_code=204, response_class=Response)
def readyz(services: Parts) -> None:
    """Say that the store can be reached."""
    try:
        services.store.objects.get(LAYOUT)
    except XpertError as error:
        raise UnavailableError(f"The store cannot be reached: {error}") from error


@router.get("/version")
def version() -> Version:
    """Return the versions of program and API."""
    return Version(version=__version__)
