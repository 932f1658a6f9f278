"""The process's log: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from xpert_services import tracing

NOISY = ("httpx2", "sentence_transformers", "urllib3")


class JsonLines(logging.Formatter):
    """One JSON object a line; what a record carries as ``told`` becomes its fields.

    Parameters
    ----------
    always
        Fields of every line, such as the deployment.
    """

    def __init__(self, **always: str) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        told = getattr(record, "told", None) or {"message": record.getMessage()}
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        line = {"at": at, "level": record.levelname, **self._always, **told}
        trace_id = tracing.current_id()
        if trace_id:
            line.setdefault("trace_id", trace_id)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(name: str = "", **always: str) -> None:
    """Write to the standard error stream from now on: what this logger and those below it are told, by default all."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(**always))
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    # Ray's own handlers stand above it.
    logger.propagate = False
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
