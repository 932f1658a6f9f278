"""`StyleSpace`: the words that pLLMs are explained in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from xpert_operator.resources.parts import Condition, ConfigMapKey, Digest, Part, Reference, rule, rules

LONGEST_MESSAGE = 256
"""Letters of what a status quotes of another's."""


class Exemplars(Part):
    """Texts in a neutral and in other styles, from which the axes are made."""

    config_map: ConfigMapKey = Field(
        description='ConfigMap with JSON Lines: {"id", "prompt", "style", "text"}, the style "neutral" included.'
    )


class Probes(Part):
    """What base and pLLMs are asked."""

    config_map: ConfigMapKey = Field(description="ConfigMap with the probes, a line each, 4 to 1000 of them.")


class StyleSpaceSpec(Part):
    """A style space, at one version."""

    model_config = rules(
        rule(
            "has(self.digest) != (has(self.exemplars) || has(self.words))",
            "Give either digest, or exemplars or words to build from, and not both.",
        ),
        rule(
            "!has(self.digest) || !(has(self.probes) || has(self.encoder))",
            "Probes and encoder go with exemplars or words: a digest names a space that has its own.",
        ),
        rule(
            "self == oldSelf || self.version > oldSelf.version",
            "A style space changes only together with its version, upwards: raise version.",
        ),
        rule("self.baseModel == oldSelf.baseModel", "A style space stays with its base model. Make another StyleSpace."),
    )
    base_model: Reference = Field(description="The BaseModel whose pLLMs it explains.")
    version: int = Field(description="Raised with every change.", ge=1)
    digest: Digest | None = Field(default=None, description="Digest of a style space that the server has already.")
    exemplars: Exemplars | None = Field(default=None, description="Texts that the server builds it from.")
    words: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(
        default=None,
        description="Styles to build it from: of the exemplars, or without these of those that come with XPerT. By default all.",
        min_length=1,
        max_length=256,
    )
    encoder: str | None = Field(
        default=None,
        description="The sentence encoder to build it with; refused where the server has another. By default the server's.",
        min_length=1,
        max_length=200,
    )
    probes: Probes | None = Field(
        default=None, description="What base and pLLMs are asked that are explained in it; by default what the server asks."
    )


class SpaceVersion(Part):
    """A style space at one version."""

    version: int = Field(description="As in the spec.")
    digest: str = Field(description="Its digest on the server: what clients ask the catalogue for.")


class Failure(Part):
    """A pLLM that cannot be explained."""

    name: str = Field(description="Its name.", max_length=63)
    reason: str = Field(description="Why, as in its own condition.", max_length=1024)
    message: str = Field(description="Why, for a person, the beginning of it.", max_length=LONGEST_MESSAGE)


class StyleSpaceStatus(Part):
    """Where a style space stands."""

    conditions: list[Condition] = Field(
        default=[],
        description="Accepted, Stored, RolledOut, Ready; InUse where it is deleted and pLLMs refer to it.",
        max_length=8,
    )
    current: SpaceVersion | None = Field(
        default=None, description="The version that serves: every pLLM is explained in it, or nearly all."
    )
    next: SpaceVersion | None = Field(default=None, description="The version that pLLMs are being explained in.")
    words: list[Annotated[str, Field(max_length=64)]] = Field(default=[], description="Its words.", max_length=256)
    pllms: int = Field(default=0, description="How many pLLMs on the server refer to it.")
    explained: int = Field(default=0, description="How many of them are explained in its newest version.")
    failed: int = Field(default=0, description="How many of them cannot be explained in it.")
    failures: list[Failure] = Field(default=[], description="The first of those, with the reason.", max_length=5)
    explaining: list[Annotated[str, Field(max_length=63)]] = Field(
        default=[], description="Whose turn it is: pLLMs that are being explained in it.", max_length=256
    )
    job: str | None = Field(default=None, description="The server's job that builds it.")
    observed_generation: int | None = Field(default=None, description="The generation of the spec that the status speaks of.")
