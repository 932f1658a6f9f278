"""The deployments, and how they become one application.

Annotations are evaluated here: Serve looks at the builder's to turn a configuration's values into `SiteArgs`.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

from fastapi import FastAPI
from ray import serve

from xpert.core.errors import UnavailableError
from xpert_services import tracing
from xpert_services.local import keeping_house, make_worker
from xpert_services.serving import process
from xpert_services.serving.args import SiteArgs
from xpert_services.serving.scaling import WANTED, gateway_options, worker_options

END_S = 20.0
WORKING = {"health_check_period_s": 5.0, "graceful_shutdown_timeout_s": END_S + 5, "graceful_shutdown_wait_loop_s": 0.1}


class Working:
    """Works on jobs of some kinds in a thread of its own.

    Parameters
    ----------
    args
        The site.
    kinds
        Which jobs; the first names the deployment in logs.
    """

    def __init__(self, args: SiteArgs, *kinds: str) -> None:
        process.prepare(kinds[0])
        self._services, self._kinds = args.services(), kinds
        # What a worker that was killed left undone.
        self._services.catalogues.refresh_all()
        self._jobs_a_replica = (args.explainer if "explain" in kinds else args.merger).jobs
        self._worker = make_worker(self._services, lease_s=args.lease_s, kinds=kinds)
        self._thread = threading.Thread(target=self._worker.run, name="worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Let Serve replace this replica where its worker is gone.

        Raises
        ------
        UnavailableError
            It is.
        """
        if not self._thread.is_alive():
            raise UnavailableError(f"The worker for '{self._kinds[0]}' ended. Serve starts another.")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell how many replicas the open jobs are worth."""
        # In a thread: it reads the store, and the replica has to answer Serve meanwhile.
        n_open = await asyncio.to_thread(self._count_open)
        return {WANTED: float(math.ceil(n_open / self._jobs_a_replica))}

    def _count_open(self) -> int:
        return sum(job.kind in self._kinds for job in self._services.jobs.open())

    def __del__(self) -> None:
        """Give jobs back; Serve calls this before it ends a replica."""
        worker = getattr(self, "_worker", None)
        if worker:
            worker.stop()
            self._thread.join(END_S)
            tracing.flush()


class Explainer(Working):
    """Explains pLLMs; having the encoder, it builds style spaces as well."""

    def __init__(self, args: SiteArgs) -> None:
        super().__init__(args, "explain", "space")


class Merger(Working):
    """Merges pLLMs; having least to do, it keeps house as well."""

    def __init__(self, args: SiteArgs) -> None:
        super().__init__(args, "merge")
        self._keeping = ExitStack()
        self._keeping.enter_context(keeping_house(self._services))

    def __del__(self) -> None:
        """Give jobs back and stop keeping house."""
        if hasattr(self, "_keeping"):
            self._keeping.close()
        super().__del__()


def app(args: SiteArgs) -> serve.Application:
    """Return a site: `serve run xpert_services.serving:app store=FOLDER`, or the same in a configuration file."""

    def build() -> FastAPI:
        return process.build_gateway(args)

    explainer = _deployment("explainer", Explainer, {**WORKING, **worker_options(args.explainer)}).bind(args)
    merger = _deployment("merger", Merger, {**WORKING, **worker_options(args.merger)}).bind(args)
    # The gateway asks neither of them: jobs go through the store. Bound to it, they belong to the application.
    return _deployment("gateway", serve.ingress(build)(), gateway_options(args.gateway)).bind(explainer, merger)


def _deployment(name: str, target: Callable[..., Any], options: dict[str, Any]) -> serve.Deployment:
    # Serve would log each request a second time, beside the gate's line.
    logging = {"enable_access_log": False}
    return cast("serve.Deployment", serve.deployment(target, name=name, logging_config=logging, **options))
