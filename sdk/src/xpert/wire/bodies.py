"""Bodies of requests (``…Draft``) and answers: requests refuse unknown fields, answers may grow."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xpert.core.space import StyleSpace

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", examples=["formal-en"])]
"""Names of pLLMs, bases and tokens: small letters, digits, dots, dashes and underscores, as Kubernetes takes them."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 as 64 hexadecimal digits."""

CellName = Annotated[str, Field(pattern=r"^[0-9a-f]{16}-[0-9]{1,6}$")]
"""A cell of a catalogue: the first digits of its index's digest, and its number."""

PllmId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""A pLLM as catalogues for phones name it: the first digits of its adapter's digest."""

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

Scope = Literal["read", "publish", "admin"]
"""What a token may do; each includes the ones before it."""

UploadKind = Literal["adapter", "space", "exemplars"]
JobKind = Literal["explain", "merge", "space"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Draft(BaseModel):
    """Body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Body of an answer."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """One page of a list; ``next`` is the ``after`` of the following one, None at the end."""

    items: list[Item]
    next: str | None = None


class Version(Answer):
    """What the server is."""

    version: str
    api: Literal["v1"] = "v1"


class BaseDraft(Draft):
    """A base model to register: ``source`` is what the server loads it by (a folder there, starter:base or a hub name)."""

    name: Name
    source: str = Field(pattern=r"^[A-Za-z0-9./~_][A-Za-z0-9./~_:@+-]{0,199}$", examples=["starter:base"])


class Base(Answer):
    """A base model."""

    name: Name
    source: str
    digest: Digest
    created: datetime


class SpaceDraft(Draft):
    """A style space: an uploaded ``artifact`` to register, or uploaded ``exemplars`` to build one from, with a ``name``.

    ``encoder`` names the sentence encoder to build it with; a server that has another refuses.
    """

    artifact: Digest | None = None
    exemplars: Digest | None = None
    name: Name | None = None
    version: int = Field(default=1, ge=1, le=1_000_000)
    encoder: str | None = Field(default=None, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.artifact is None) == (self.exemplars is None):
            raise ValueError("give artifact, or exemplars with a name: one of them")
        if (self.exemplars is None) != (self.name is None):
            raise ValueError("a name goes with exemplars, and exemplars with a name")
        if self.encoder is not None and self.exemplars is None:
            raise ValueError("an encoder goes with exemplars: an artifact says its own")
        return self


class Space(Answer):
    """A style space: immutable, known by the digest of its content. ``probes`` names its own, where it has some."""

    digest: Digest
    artifact: Digest
    probes: Digest | None = None
    name: str
    version: int
    encoder: str
    words: list[str]
    created: datetime

    @classmethod
    def of(cls, space: StyleSpace, *, artifact: str, created: datetime, probes: str | None = None) -> Space:
        """Describe a style space whose file is stored as ``artifact``."""
        return cls(
            digest=space.digest,
            artifact=artifact,
            probes=probes,
            name=space.name,
            version=space.version,
            encoder=space.encoder,
            words=list(space.words),
            created=created,
        )


class UploadDraft(Draft):
    """Bytes that a client wants to send: safetensors, the JSON beside them, or exemplars. What jobs make is not sent."""

    digest: Digest
    size: int = Field(ge=1)
    kind: UploadKind = "adapter"


class ArtifactUpload(Answer):
    """Where to PUT the bytes, with which headers; nothing needs to be sent where they are ``present``.

    ``offset`` bytes are there already from an upload that was cut: PATCH the rest to go on; None: the address takes all or
    nothing. ``confirm``: ask again when all was sent, the server looks at it then.
    """

    digest: Digest
    present: bool
    url: str | None = None
    headers: dict[str, str] = {}
    expires: datetime | None = None
    offset: int | None = None
    confirm: bool = False


class PllmDraft(Draft):
    """A pLLM to register: an uploaded adapter in PEFT's format, file name -> digest; in no catalogue without ``publish``."""

    name: Name
    base: Name
    files: dict[FileName, Digest] = Field(min_length=1, max_length=16, json_schema_extra={"additionalProperties": False})
    publish: bool = True


class PllmChange(Draft):
    """What may change of a pLLM: whether it stands in the catalogue."""

    publish: bool


class WordBody(Answer):
    """One word of an explanation, as `xpert.core.explanation.WordCoefficient`."""

    word: str
    coefficient: float
    lower: float
    upper: float
    held_up: bool


class ExplanationBody(Answer):
    """The explanation of a pLLM in one style space, strongest words first."""

    space: Digest
    words: list[WordBody]
    strength: float
    residual_share: float
    n_probes: int


class Pllm(Answer):
    """A pLLM.

    ``quarantined`` says why its adapter was refused; it then is in no catalogue and cannot be downloaded. ``job`` is the
    job that explains it, ``explanation`` what came of it. Only what is ``published`` is in the catalogue.
    """

    name: Name
    base: Name
    base_digest: Digest
    adapter_digest: str
    adapter_bytes: int
    files: dict[str, Digest]
    created: datetime
    job: str | None = None
    explanation: ExplanationBody | None = None
    quarantined: str | None = None
    merged_from: list[MergeSource] = []
    published: bool = True


class SampleAnswer(Answer):
    """What base and pLLM answered to one probe."""

    prompt: str
    base: str
    pllm: str


class ExplanationDraft(Draft):
    """pLLMs to explain: all of the base's where none is named."""

    base: Name
    pllms: list[Name] = Field(default=[], max_length=1000)
    space: Digest | None = None


class MergeSource(Draft):
    """One source of a merge."""

    pllm: Name
    weight: float = Field(ge=-4, le=4)


class MergeDraft(Draft):
    """A merge of pLLMs of one base into a new one, exact or truncated to ``rank``."""

    name: Name
    base: Name
    sources: list[MergeSource] = Field(min_length=1, max_length=8)
    rank: int | None = Field(default=None, ge=1, le=1024)


class CatalogueInfo(Answer):
    """What the catalogue of a base is at the moment; ``version`` is also its ETag."""

    base: Name
    base_digest: Digest
    space: Digest
    version: str
    n_pllms: int
    n_bytes: int
    pllms: list[str]


class Job(Answer):
    """Long work: idempotent by content, so that asking twice is one job."""

    id: str
    kind: JobKind
    state: JobState
    done: int = 0
    total: int = 0
    attempts: int = 0
    subject: str
    result: dict[str, str] = {}
    error: str | None = None
    code: str | None = None
    created: datetime
    updated: datetime


class TokenDraft(Draft):
    """A token to make; None: it does not expire."""

    name: Name
    scope: Scope = "read"
    days: int | None = Field(default=None, ge=1, le=3650)


class Token(Answer):
    """A token; ``secret`` stands in the answer to its making alone."""

    id: str
    name: Name
    scope: Scope
    created: datetime
    expires: datetime | None = None
    secret: str | None = None


class AuditEntry(Answer):
    """One write: who, what, when, and how it ended."""

    at: datetime
    token: str
    method: str
    path: str
    status: int
    request_id: str


Pllm.model_rebuild()
