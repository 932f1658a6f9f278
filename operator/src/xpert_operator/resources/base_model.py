"""`BaseModel`: a base model that the server can load."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from xpert_operator.resources.parts import Condition, Digest, Part, rule, rules


class BaseModelSpec(Part):
    """A base model."""

    model_config = rules(
        rule(
            "self == oldSelf", "A base model does not change, as adapters and catalogues are bound to it. Make another BaseModel."
        ),
    )
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9./~_][A-Za-z0-9./~_:@+-]{0,199}$")] = Field(
        description="What the server loads it by: a hub name, a folder below its --models, or starter:base.",
        examples=["Qwen/Qwen2.5-0.5B"],
    )
    digest: Digest | None = Field(
        default=None, description="Digest that the server must find for its weights; without, whatever it finds is taken."
    )


class BaseModelStatus(Part):
    """Where a base model stands."""

    conditions: list[Condition] = Field(
        default=[], description="Stored, Ready; InUse where it is deleted and others refer to it.", max_length=8
    )
    digest: str | None = Field(default=None, description="Digest that the server found.")
    observed_generation: int | None = Field(default=None, description="The generation of the spec that the status speaks of.")
