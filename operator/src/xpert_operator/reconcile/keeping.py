"""Base models and style spaces that somebody deleted: they stay as long as others refer to them."""

from __future__ import annotations

from xpert_operator.reconcile.conditions import Conditions
from xpert_operator.reconcile.views import Action, AddFinalizer, Event, Meta, RemoveFinalizer

IN_USE = "InUse"
N_NAMED = 5


def keeping(meta: Meta, users: tuple[str, ...]) -> Action | None:
    """Return what is to be done about our finalizer before anything else."""
    if meta.deleting_since is None:
        return None if meta.has_finalizer else AddFinalizer()
    return RemoveFinalizer() if meta.has_finalizer and not users else None


def say_users(said: Conditions, meta: Meta, users: tuple[str, ...]) -> tuple[Event, ...]:
    """Say who still refers to a resource that is to go; it works on for them."""
    if meta.deleting_since is None or not (meta.has_finalizer and users):
        return ()
    named = ", ".join(users[:N_NAMED]) + (f" and {len(users) - N_NAMED} more" if len(users) > N_NAMED else "")
    message = f"{len(users)} still refer to it: {named}. It goes when they are gone, and works until then."
    said.holds(IN_USE, IN_USE, message)
    return (Event(reason=IN_USE, message=message, is_warning=True),) if said.changed(IN_USE) else ()
