"""How many replicas are wanted, as Ray Serve's options say it."""

from __future__ import annotations

import math
from typing import Any

from ray.serve.config import AutoscalingContext

from xpert_services.serving.args import GatewayArgs, Replicas, WorkerArgs

WANTED = "wanted"
"""What a worker's replica tells Serve: replicas for the jobs that are open."""


def gateway_options(args: GatewayArgs) -> dict[str, Any]:
    """Return the gateway's options: it grows with its requests."""
    return {
        **_options(args, {"target_ongoing_requests": max(1.0, args.requests / 4)}),
        "max_ongoing_requests": args.requests,
        "max_queued_requests": args.waiting,
    }


def worker_options(args: WorkerArgs) -> dict[str, Any]:
    """Return a worker's options: it grows with the queue, which is in the store, so that Serve's own counts say nothing."""
    delays = {"upscale_delay_s": args.grow_s, "downscale_delay_s": args.shrink_s}
    return _options(args, {"policy": {"policy_function": f"{__name__}:by_queue"}, **delays})


def by_queue(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Return as many replicas as the one that saw most of the queue wants."""
    told = (context.aggregated_metrics or {}).get(WANTED, {})
    wanted = math.ceil(max(told.values(), default=context.target_num_replicas))
    return min(max(wanted, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas), {}


def _options(args: Replicas, growing: dict[str, Any]) -> dict[str, Any]:
    actor = {"num_cpus": args.cpus, "num_gpus": args.gpus}
    if args.most == args.least:
        return {"num_replicas": args.least, "ray_actor_options": actor}
    scaling = {"min_replicas": args.least, "max_replicas": args.most, **growing}
    return {"autoscaling_config": scaling, "ray_actor_options": actor}
