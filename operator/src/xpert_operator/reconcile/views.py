"""What a reconciliation looks at, and what it decides: plain values, no calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel

from xpert.wire import Job, Pllm
from xpert_operator.resources import Condition, Failure
from xpert_operator.resources.parts import ConfigMapKey

Status = TypeVar("Status", bound=BaseModel)

TRANSIENT = frozenset({"unavailable", "storage", "conflict", "access"})
"""Codes of errors that may go by themselves: a token or secret may be put right without a change of the resource."""

SOON, LATER, SELDOM = 2.0, 5.0, 600.0
"""Seconds to wait for a job, after what may go by itself, and after what will not."""

REASONS = {
    "unavailable": "ServerAway",
    "storage": "ServerAway",
    "access": "AccessDenied",
    "not_found": "NotFound",
    "mismatch": "Mismatch",
    "bad_file": "BadFile",
    "unsafe_file": "UnsafeFile",
    "too_large": "TooLarge",
    "bad_input": "BadInput",
    "conflict": "Conflict",
}
"""Code of an error -> reason in a condition."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why something could not be found out or done.

    Attributes
    ----------
    code
        Of the error, as in `xpert.core.errors`.
    message
        For a person.
    """

    code: str
    message: str

    @property
    def is_transient(self) -> bool:
        """Whether the same may succeed later."""
        return self.code in TRANSIENT

    @property
    def silence(self) -> str:
        """Why nothing is known of the server: a token that it does not take is mended elsewhere than a server that is away."""
        return "AccessDenied" if self.code == "access" else "ServerAway"


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What every resource has.

    Attributes
    ----------
    namespace, name, generation
        As in its metadata; the namespace is empty for what belongs to the cluster.
    deleting_since
        When somebody deleted it.
    has_finalizer
        Whether ours is on it.
    namespace_ends
        Whether its namespace is being deleted as well.
    conditions
        As its status has them.
    """

    namespace: str
    name: str
    generation: int
    deleting_since: datetime | None = None
    has_finalizer: bool = False
    namespace_ends: bool = False
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BaseView:
    """A BaseModel as pLLMs see it: ready where it has a ``digest``."""

    digest: str | None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class SpaceView:
    """A StyleSpace as a pLLM sees it.

    Attributes
    ----------
    base
        Name of its base model.
    target
        Digest to be explained in; None while it is not there.
    message
        Of its condition Ready.
    serving
        Digest of the version that serves, where that is another one.
    has_turn
        Whether this pLLM may ask to be explained now.
    """

    base: str
    target: str | None
    message: str = ""
    serving: str | None = None
    has_turn: bool = True


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """A pLLM as a merge of it sees it."""

    base: str
    is_stored: bool


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the server has of a pLLM.

    Attributes
    ----------
    pllm
        Its record, with the explanation in the space asked for; None where there is none.
    job
        The job that works on it, where it is not explained.
    catalogue
        Version of the catalogue that it stands in: of the space asked for or, until then, of the one that serves.
    is_served
        Whether it is explained in the version of its style space that serves, while another one is asked for.
    """

    pllm: Pllm | None = None
    job: Job | None = None
    catalogue: str | None = None
    is_served: bool = False


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that ``kubectl describe`` should show."""

    reason: str
    message: str
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Status]):
    """What is to be done: write the status, then take the one action, if any, and look again.

    Attributes
    ----------
    status
        As it is to be.
    action
        The next step; None where nothing is to be done now.
    again
        Seconds after which to look again though nothing changed; None: when something changes or the drift timer comes.
    events
        What happened.
    is_failure
        Whether ``again`` grows with every time in a row.
    """

    status: Status
    action: Action | None = None
    again: float | None = None
    events: tuple[Event, ...] = ()
    is_failure: bool = False


class Action:
    """A step; each may be taken twice and has its effect once."""


@dataclass(frozen=True)
class AddFinalizer(Action):
    """Keep the resource until the server's copy is gone."""


@dataclass(frozen=True)
class RemoveFinalizer(Action):
    """Let the resource go."""


@dataclass(frozen=True)
class AddBase(Action):
    """Register a base model on the server."""

    name: str
    source: str


@dataclass(frozen=True)
class BuildSpace(Action):
    """Upload exemplars, XPerT's own where none are named, and ask for a style space; the job's id comes into the status."""

    name: str
    exemplars: ConfigMapKey | None
    words: tuple[str, ...] = ()
    probes: ConfigMapKey | None = None
    encoder: str | None = None


@dataclass(frozen=True)
class PushAdapter(Action):
    """Fetch an adapter and bring it to the server."""

    base: str
    name: str
    uri: str
    digest: str
    secret: str | None


@dataclass(frozen=True)
class AskMerge(Action):
    """Ask for a merge."""

    base: str
    name: str
    sources: Mapping[str, float]
    rank: int | None


@dataclass(frozen=True)
class AskExplanation(Action):
    """Ask for a pLLM to be explained in a space."""

    base: str
    name: str
    space: str | None


@dataclass(frozen=True)
class SetPublished(Action):
    """Put a pLLM into the catalogue, or take it out."""

    base: str
    name: str
    publish: bool


@dataclass(frozen=True)
class DeleteDependents(Action):
    """Delete the resources that are merged from this one."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class CancelJob(Action):
    """Stop a job of the server; one that runs ends soon, not at once."""

    id: str


@dataclass(frozen=True)
class DeletePllm(Action):
    """Delete the server's copy."""

    base: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Members:
    """The stored pLLMs that refer to a StyleSpace.

    Attributes
    ----------
    total
        How many there are.
    explained
        Digest -> how many are explained in it.
    waiting
        Names of those that are not explained in the version asked for yet, in the order in which they get their turns.
    failed
        Those that cannot be explained in it, until somebody mends something.
    """

    total: int
    explained: Mapping[str, int] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpaceKnown:
    """What the server has of a style space: its words where it is there, the job that builds it."""

    digest: str | None = None
    words: tuple[str, ...] = ()
    job: Job | None = None
