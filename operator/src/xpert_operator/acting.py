"""Taking a step."""

from __future__ import annotations

from dataclasses import dataclass

from xpert_operator.cluster import Cluster
from xpert_operator.mirror import Body, Key, Mirror
from xpert_operator.reconcile.views import (
    SOON,
    Action,
    AddBase,
    AddFinalizer,
    AskExplanation,
    AskMerge,
    BuildSpace,
    CancelJob,
    DeleteDependents,
    DeletePllm,
    PushAdapter,
    RemoveFinalizer,
    SetPublished,
)
from xpert_operator.resources import PLLM
from xpert_operator.server import Server


@dataclass(frozen=True)
class Done:
    """What a step brought: the resource as it is now, the job that it asked for, or in how many seconds to see what it did."""

    body: Body | None = None
    job: str | None = None
    after: float | None = None


async def act(action: Action, key: Key, mirror: Mirror, cluster: Cluster, server: Server) -> Done:
    """Take a step.

    Raises
    ------
    XpertError
        It failed; nothing half-done stays.
    """
    body = mirror.get(key)
    if body is None:
        return Done()  # it is gone meanwhile
    match action:
        case AddFinalizer():
            return Done(body=await cluster.set_finalizer(key, body, is_on=True))
        case RemoveFinalizer():
            return Done(body=await cluster.set_finalizer(key, body, is_on=False))
        case AddBase(name, source):
            await server.add_base(name, source)
        case PushAdapter():
            secret = await cluster.secret(key.namespace, action.secret) if action.secret else {}
            await server.push(action, secret, publish=bool(body["spec"].get("publish", True)))
        case AskMerge():
            return Done(job=await server.merge(action))
        case AskExplanation():
            return Done(job=await server.explain(action))
        case SetPublished():
            await server.publish(action)
        case BuildSpace():
            texts, asked = [
                await cluster.config_map(key.namespace, place.name, place.key) if place else None
                for place in (action.exemplars, action.probes)
            ]
            return Done(job=await server.build_space(action, texts, asked))
        case DeleteDependents(names):
            for name in names:
                await cluster.delete(Key(PLLM.name, key.namespace, name))
            return Done(after=SOON)  # the watch tells that they go
        case CancelJob(id_):
            await server.cancel(id_)
            return Done(after=SOON)
        case DeletePllm(base, name):
            await server.delete(base, name)
    return Done()
