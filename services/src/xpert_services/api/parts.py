"""What the routes share: access to the services, scopes, pages, documented answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from xpert.core.errors import AccessError
from xpert.wire import Problem
from xpert.wire.bodies import Digest, Scope
from xpert.wire.bodies import Name as Name
from xpert.wire.problems import MEDIA_TYPE
from xpert_services.access import Caller, includes
from xpert_services.services import Services

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, told in {"4XX": "The request is refused.", "5XX": "The server cannot do it now."}.items()
}
"""Documents that every error is a problem."""

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token of this server.")


# Both of these are asynchronous since the framework runs what is not in a thread, which takes longer than the work itself.
async def services_of(request: Request) -> Services:
    """Return what the app was made with."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services_of)]


class Needs:
    """Lets a request through whose token has a scope.

    Parameters
    ----------
    scope
        Which.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None
    ) -> Caller:
        """Return who asks; the gate has checked the token.

        Raises
        ------
        AccessError
            The token may not do this.
        """
        caller: Caller = request.state.caller
        if not includes(caller.scope, self.scope):
            raise AccessError(f"This needs a token of scope '{self.scope}', this one has '{caller.scope}'.")
        return caller


def needs(scope: Scope) -> Any:
    """Return the dependency that asks for a scope."""
    return Depends(Needs(scope))


class PageQuery(BaseModel):
    """Which page: ``after`` is the ``next`` of the page before."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._/-]+$")
    limit: int = Field(default=100, ge=1, le=1000)


class SpaceQuery(BaseModel):
    """Which style space; by default the one that comes with the package."""

    model_config = ConfigDict(extra="forbid")

    space: Digest | None = None


def problem_schema() -> dict[str, Any]:
    """Return the schema that `PROBLEMS` refers to."""
    return Problem.model_json_schema()
