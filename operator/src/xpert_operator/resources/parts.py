"""What the resources' models are made of: names, digests, references, conditions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"

Digest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")]
"""SHA-256 as 64 hexadecimal digits, with or without ``sha256:`` before them."""

Name = Annotated[str, Field(pattern=NAME, max_length=63)]


class Part(BaseModel):
    """A part of a resource; written in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return one CEL rule, with what a person is told where it does not hold."""
    return {"rule": expression, "message": message, **more}


def rules(*found: dict[str, str]) -> ConfigDict:
    """Return the configuration of a part that is held to CEL rules."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": list[Any](found)})


class Reference(Part):
    """Names another resource."""

    name: Name = Field(description="Name of the resource.")


class SecretReference(Part):
    """Names a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Name of the Secret.")


class ConfigMapKey(Part):
    """Names a key of a ConfigMap in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Name of the ConfigMap.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key in its data.")


class Condition(Part):
    """Where a resource stands in one respect, as Kubernetes' own conditions."""

    type: str = Field(description="What it is about.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(description="Why, as one word for programs.", max_length=1024)
    message: str = Field(description="Why, for a person, and what to do.", max_length=4096)
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int = Field(description="The generation of the spec that this speaks of.", ge=0)
