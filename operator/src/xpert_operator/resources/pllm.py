"""`PersonalizedLLM`: a base model with an adapter, or a merge of others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xpert_operator.resources.parts import Condition, Digest, Name, Part, Reference, SecretReference, rule, rules


class BaseReference(Part):
    """Names the base model."""

    name: Name = Field(description="Name of the BaseModel.")
    digest: Digest | None = Field(default=None, description="Digest that the base must have.")


class AdapterSource(Part):
    """An adapter in PEFT's format, by address."""

    uri: Annotated[str, Field(max_length=1024, pattern=r"^(s3|https|hf)://[A-Za-z0-9]")] = Field(
        description="Folder with adapter_model.safetensors and adapter_config.json: s3://BUCKET/PREFIX, https://HOST/FOLDER or "
        "hf://OWNER/REPOSITORY[@REVISION].",
        examples=["s3://adapters/formal-en"],
    )
    digest: Digest = Field(description="SHA-256 of adapter_model.safetensors, as sha256sum prints it.")
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret with the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL "
        "and AWS_REGION for s3, token for https and hf.",
    )


class MergeSource(Part):
    """One pLLM of a merge."""

    name: Name = Field(description="Name of a PersonalizedLLM of the same base model in this namespace.")
    weight: float = Field(description="How much of its task vector.", ge=-4, le=4)


class Merge(Part):
    """A merge: base + the sum of weight x (pLLM - base)."""

    model_config = rules(
        rule("self.sources.all(s, self.sources.exists_one(t, t.name == s.name))", "A pLLM may stand among the sources once."),
        rule("self.sources.exists(s, s.weight != 0.0)", "At least one weight must differ from 0."),
    )
    sources: list[MergeSource] = Field(description="What is merged.", min_length=1, max_length=8)
    rank: int | None = Field(
        default=None,
        description="Rank to truncate the merge to; without, it is exact and has the sum of the ranks.",
        ge=1,
        le=1024,
    )


class PersonalizedLLMSpec(Part):
    """A personal LLM."""

    model_config = rules(
        rule("has(self.adapter) != has(self.merge)", "Give either adapter or merge, and not both."),
        rule("self.baseModel == oldSelf.baseModel", "baseModel does not change. Make another PersonalizedLLM."),
        rule(
            "has(self.adapter) == has(oldSelf.adapter) && (!has(self.adapter) || "
            "(self.adapter.uri == oldSelf.adapter.uri && self.adapter.digest == oldSelf.adapter.digest))",
            "The adapter's uri and digest do not change, as phones keep what they fetched. Make another PersonalizedLLM.",
        ),
        rule(
            "has(self.merge) == has(oldSelf.merge) && (!has(self.merge) || self.merge == oldSelf.merge)",
            "A merge does not change, as phones keep what they fetched. Make another PersonalizedLLM.",
        ),
    )
    base_model: BaseReference = Field(description="The base model that the adapter was trained on.")
    adapter: AdapterSource | None = Field(default=None, description="The adapter.")
    merge: Merge | None = Field(default=None, description="Other pLLMs that it is merged from.")
    style_space: Reference | None = Field(
        default=None, description="The StyleSpace that it is explained in; without, the server's default one."
    )
    publish: bool = Field(default=True, description="Whether it stands in the catalogue that phones choose from.")
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete", description="Whether the server's copy goes together with the resource."
    )
    dependents: Literal["Refuse", "Cascade", "Ignore"] = Field(
        default="Refuse",
        description="What its deletion does where others are merged from it: wait until they are gone, delete them, or go all "
        "the same.",
    )


class Word(Part):
    """One word of an explanation."""

    word: str = Field(description="The word.", max_length=64)
    coefficient: float = Field(description="How much of it; 1 is as much as the exemplars have.")
    lower: float = Field(description="Lower end of the interval over probes.")
    upper: float = Field(description="Upper end of the interval.")
    held_up: bool = Field(description="Whether it held on probes that it was not computed from.")


class PersonalizedLLMStatus(Part):
    """Where a personal LLM stands."""

    conditions: list[Condition] = Field(default=[], description="Accepted, Stored, Explained, Published, Ready.", max_length=8)
    summary: str | None = Field(default=None, description="Its strongest words with their coefficients.", max_length=256)
    words: list[Word] = Field(default=[], description="Its strongest words.", max_length=12)
    strength: float | None = Field(default=None, description="Norm of what the words explain.")
    residual_share: float | None = Field(default=None, description="Share of the difference that no word explains.")
    n_probes: int | None = Field(default=None, description="How many prompts it was asked.")
    style_space: str | None = Field(default=None, description="Digest of the space that the words are of.")
    wanted_space: str | None = Field(
        default=None, description="Digest of the space that the condition Explained speaks of; without, the server's default one."
    )
    base_digest: str | None = Field(default=None, description="Digest of the base.")
    adapter_digest: str | None = Field(default=None, description="Digest of the adapter as the server knows it.")
    adapter_bytes: int | None = Field(default=None, description="Size of the adapter's weights in bytes.")
    catalogue_version: str | None = Field(default=None, description="Version of the catalogue that it stands in.")
    server_name: str | None = Field(default=None, description="What it is called on the server.")
    job: str | None = Field(default=None, description="The server's job that works on it.")
    observed_generation: int | None = Field(default=None, description="The generation of the spec that the status speaks of.")
