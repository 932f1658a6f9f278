"""`PersonalizedLLM`: from what is to what is to be done."""

from __future__ import annotations

from xpert.wire import ExplanationBody, Job, Pllm
from xpert_operator.reconcile.conditions import QUEUED, REQUEUED, Conditions, pause
from xpert_operator.reconcile.pllm_deletion import PllmPlan, delete_pllm
from xpert_operator.reconcile.pllm_refusals import refusal
from xpert_operator.reconcile.pllm_seen import PllmObserved, differs, plain
from xpert_operator.reconcile.views import (
    LATER,
    REASONS,
    SELDOM,
    SOON,
    TRANSIENT,
    Action,
    AddFinalizer,
    AskExplanation,
    AskMerge,
    Event,
    Known,
    Plan,
    Problem,
    PushAdapter,
    SetPublished,
)
from xpert_operator.resources import Condition, PersonalizedLLMStatus, Word

TYPES = ("Accepted", "Stored", "Explained", "Published", "Ready")
N_WORDS, N_SUMMARY = 12, 3
OLD_SERVES = "OldVersionServes"
UNTRIED = frozenset({QUEUED, REQUEUED, *(REASONS[code] for code in TRANSIENT)})
"""Reasons after which a failed job is an older one: none was asked for since, or asking for it failed."""


def reconcile_pllm(seen: PllmObserved) -> PllmPlan:
    """Decide on the next step."""
    if seen.meta.deleting_since:
        return delete_pllm(seen)
    decision = _Decision(seen)
    decision.run()
    return decision.plan()


class _Decision:
    """One decision while it is made: conditions are said one after the other until something is missing."""

    def __init__(self, seen: PllmObserved) -> None:
        self._seen = seen
        self._said = Conditions(seen.meta.conditions, generation=seen.meta.generation, now=seen.now)
        self._action: Action | None = None
        self._again: float | None = None
        self._is_failure = False
        self._waits_for_other = False

    def run(self) -> None:
        seen = self._seen
        if not self._accepted():
            return
        if not seen.meta.has_finalizer:
            self._do(AddFinalizer())
            return
        if isinstance(seen.server, Problem):
            for type_ in ("Stored", "Explained", "Published"):
                self._said.unknown(type_, seen.server.silence, f"The server could not be asked: {seen.server.message}")
            if self._is_refused(seen.server):
                reason = REASONS.get(seen.server.code, "Failed")
                self._said.fails("Explained", reason, f"The server cannot tell of it: {seen.server.message}")
            self._try_again(LATER if seen.server.is_transient else SELDOM)
            return
        pllm = self._stored(seen.server)
        if pllm is None:
            return
        # Who takes one back does not wait for an explanation, which may never come.
        is_withdrawn = pllm.published and not seen.spec.publish
        if is_withdrawn or self._explained(seen.server, pllm) or seen.server.is_served:
            self._published(pllm, seen.server.catalogue)

    def plan(self) -> PllmPlan:
        seen, said = self._seen, self._said
        failing = [said.get(type_) for type_ in self._known() if not said.is_true(type_)]
        if not failing and len(self._known()) == len(TYPES) - 1:
            said.holds("Ready", "Ready", "As asked for.")
        elif self._is_served(failing):
            message = f"The old version of the style space serves while the new one is rolled out: {failing[0].message}"
            said.holds("Ready", OLD_SERVES, message)
        elif isinstance(seen.server, Problem) and said.was("Ready", OLD_SERVES) and said.is_true("Published"):
            said.unknown("Ready", seen.server.silence, seen.server.message)
        else:
            first = failing[0] if failing else None
            reason, message = (first.reason, first.message) if first else ("Working", "Under way.")
            said.fails("Ready", reason, message)
            said.rest(TYPES)
        if seen.failure and not self._is_failure:
            self._try_again(LATER if seen.failure.is_transient else SELDOM)
        action = None if seen.failure else self._action
        again = None if action else self._again
        return Plan(status=self._status(), action=action, again=again, is_failure=self._is_failure, events=self._events())

    def _is_served(self, failing: list[Condition]) -> bool:
        """Whether nothing is amiss but that the explanation in a new version of the style space is not there yet."""
        known = self._seen.server
        is_all_said = len(self._known()) == len(TYPES) - 1
        return isinstance(known, Known) and known.is_served and is_all_said and [found.type for found in failing] == ["Explained"]

    def _is_refused(self, found: Problem) -> bool:
        """Whether the server answers, but not about this one, which is to be explained: others do not wait for it."""
        is_explained = self._seen.target is None or self._seen.status.style_space == self._seen.target
        return not (found.is_transient or is_explained)

    def _known(self) -> list[str]:
        return [condition.type for condition in self._said.list(TYPES[:-1])]

    def _accepted(self) -> bool:
        """Whether the spec can be used: everything that it refers to is there and fits."""
        problem = refusal(self._seen)
        if problem is None:
            self._said.holds("Accepted", "Accepted", "The spec can be used.")
            return True
        self._said.fails("Accepted", *problem)
        return False

    def _stored(self, known: Known) -> Pllm | None:
        """Return what the server has, where it can be used."""
        seen, pllm = self._seen, known.pllm
        if pllm is None:
            job = known.job if seen.spec.merge else None
            self._work("Stored", job, _bring(seen), "Storing", "It is brought to the server.", failure=seen.failure)
            return None
        other = differs(seen, pllm)
        if other:
            self._said.fails("Stored", "NameTaken", other)
            self._try_again(SELDOM)
            return None
        if pllm.quarantined:
            self._said.fails("Stored", "Quarantined", f"The server refused the adapter: {pllm.quarantined}")
            return None
        self._said.holds("Stored", "Stored", f"On the server as '{seen.server_name}' of '{seen.spec.base_model.name}'.")
        return pllm

    def _explained(self, known: Known, pllm: Pllm) -> bool:
        seen, job = self._seen, known.job
        if pllm.explanation is not None:
            self._said.holds("Explained", "Explained", f"From {pllm.explanation.n_probes} probes.")
            return True
        # A job in another space says nothing about this one.
        is_other = seen.status.wanted_space != seen.target
        self._waits_for_other = is_other and job is not None and job.state in {"queued", "running"}
        is_fresh = is_other or any(self._said.was("Explained", reason) for reason in UNTRIED)
        has_failed = job is not None and job.state == "failed" and not is_other
        failure = None if known.is_served and pllm.published != seen.spec.publish else seen.failure  # of publishing
        if seen.awaits_turn and failure is None and not (has_failed and not is_fresh and not seen.retries):
            # Whoever failed comes after those that were never tried, or a few would have all the turns.
            was_tried = has_failed and not self._said.was("Explained", QUEUED)
            wait = "It waits for its turn: only so many of a style space are explained at a time."
            self._said.fails("Explained", REQUEUED if was_tried else QUEUED, wait)
            return False
        ask = AskExplanation(seen.spec.base_model.name, seen.server_name, seen.target)
        self._work("Explained", job, ask, "Explaining", "The server explains it.", failure=failure, is_fresh=is_fresh)
        return False

    def _published(self, pllm: Pllm, catalogue: str | None) -> None:
        base, wanted = self._seen.spec.base_model.name, self._seen.spec.publish
        if pllm.published != wanted:
            change = SetPublished(base, self._seen.server_name, wanted)
            self._work("Published", None, change, "Publishing", "The catalogue is changed.", failure=self._seen.failure)
        elif wanted and catalogue is None:
            self._said.fails("Published", "Publishing", "The catalogue does not have it yet.")
            self._again = self._again or SOON
        elif wanted:
            self._said.holds("Published", "Published", f"In the catalogue of '{base}'.")
        else:
            self._said.holds("Published", "Unlisted", "It is in no catalogue, as asked for.")

    def _work(
        self,
        type_: str,
        job: Job | None,
        action: Action,
        reason: str,
        message: str,
        *,
        failure: Problem | None,
        is_fresh: bool = False,
    ) -> None:
        """Take a step towards a condition: wait for the job that works on it, or take the action; or say why it failed."""
        seen = self._seen
        if failure:
            self._failed(type_, REASONS.get(failure.code, "Failed"), failure)
        elif job is not None and job.state == "failed" and not (seen.retries or is_fresh):
            told = f"The server's job {job.id[:12]} failed: {job.error or 'it does not say why'}"
            problem = Problem(code=job.code or "error", message=told)
            self._failed(type_, "JobInterrupted" if problem.is_transient else "JobFailed", problem)
        elif job is not None and job.state in {"queued", "running"}:
            so_far = f" {job.done} of {job.total} done." if job.done else ""
            self._said.fails(type_, reason, message + so_far)
            self._again = pause(self._said.get(type_), seen.now)
        else:
            (self._said.fails if is_fresh else self._said.works)(type_, reason, message)
            self._do(action)

    def _failed(self, type_: str, reason: str, problem: Problem) -> None:
        waits = "It is tried again." if problem.is_transient else "It is tried again seldom; mend the cause."
        self._said.fails(type_, reason, f"{problem.message} {waits}")
        self._try_again(LATER if problem.is_transient else SELDOM)

    def _do(self, action: Action) -> None:
        self._action = action

    def _try_again(self, seconds: float) -> None:
        self._again, self._is_failure = seconds, True

    def _status(self) -> PersonalizedLLMStatus:
        seen, known = self._seen, self._seen.server
        changes: dict[str, object] = {
            "conditions": self._said.list(TYPES),
            "observed_generation": seen.meta.generation,
            "server_name": seen.server_name,
            "base_digest": seen.base.digest if seen.base else seen.status.base_digest,
        }
        if isinstance(known, Known):
            changes["job"] = known.job.id if known.job else seen.status.job
            changes["catalogue_version"] = known.catalogue
            if known.pllm is not None:
                changes["adapter_digest"] = known.pllm.adapter_digest or None
                changes["adapter_bytes"] = known.pllm.adapter_bytes
                changes |= _told(known.pllm.explanation)
            if "Explained" in self._known() and not self._waits_for_other:
                changes["wanted_space"] = seen.target
        elif self._is_refused(known):
            changes["wanted_space"] = seen.target
        return seen.status.model_copy(update=changes)

    def _events(self) -> tuple[Event, ...]:
        found = []
        for type_ in ("Accepted", "Stored", "Explained", "Published"):
            if type_ not in self._known() or not self._said.changed(type_):
                continue
            condition = self._said.get(type_)
            if condition.status == "True" and type_ != "Accepted":
                found.append(Event(reason=condition.reason, message=condition.message))
            elif condition.reason in WARNED:
                found.append(Event(reason=condition.reason, message=condition.message, is_warning=True))
        return tuple(found)


WARNED = frozenset(
    {*REASONS.values(), "Failed", "JobFailed", "Quarantined", "NameTaken", "NameTooLong", "BaseDigestDiffers", "OtherBase"}
) - {"ServerAway", "Conflict"}
"""Reasons that are worth a warning; what goes by itself is not."""


def _bring(seen: PllmObserved) -> Action:
    base, adapter, merge = seen.spec.base_model.name, seen.spec.adapter, seen.spec.merge
    if adapter:
        secret = adapter.secret_ref.name if adapter.secret_ref else None
        return PushAdapter(base, seen.server_name, adapter.uri, plain(adapter.digest) or "", secret)
    return AskMerge(base, seen.server_name, seen.wanted_sources, merge.rank if merge else None)


def _told(explanation: ExplanationBody | None) -> dict[str, object]:
    """Return what the status says of an explanation; what it said of an older one stays until there is a new one."""
    if explanation is None:
        return {}
    words = [
        Word(word=w.word, coefficient=w.coefficient, lower=w.lower, upper=w.upper, held_up=w.held_up)
        for w in explanation.words[:N_WORDS]
    ]
    return {
        "words": words,
        "summary": ", ".join(f"{word.word} {word.coefficient:.2f}" for word in words[:N_SUMMARY]),
        "strength": round(explanation.strength, 3),
        "residual_share": round(explanation.residual_share, 3),
        "n_probes": explanation.n_probes,
        "style_space": explanation.space,
    }
