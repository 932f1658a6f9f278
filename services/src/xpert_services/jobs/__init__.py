"""Jobs: long work that is recorded in the store, leased by workers, and never done twice."""

from xpert_services.jobs.leases import Lease, Stopped, progress_of
from xpert_services.jobs.queue import Jobs
from xpert_services.jobs.state import KINDS, JobRequest
from xpert_services.jobs.worker import Handler, Worker

__all__ = ["KINDS", "Handler", "JobRequest", "Jobs", "Lease", "Stopped", "Worker", "progress_of"]
