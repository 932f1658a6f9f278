"""Whether a store is consistent: everything in it is read, and compared with everything that refers to it."""

from xpert_services.checks.checking import Report, check, check_twice
from xpert_services.checks.problems import Problem

__all__ = ["Problem", "Report", "check", "check_twice"]
