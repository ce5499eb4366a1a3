"""The format of log lines: plain text, or one JSON object a line, which names its task."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FORMATS = ("plain", "json")

# The task whose handler runs in this context. Each line that the handler logs, by any logger, names this task.
running: ContextVar[Any] = ContextVar("running", default=None)


class JsonFormatter(logging.Formatter):
    """Writes one object a line: time, level, logger, pid, message, and if there is one: exception, consumer, task.

    The members of a task are task_id, type, attempt and delivery.
    """

    def __init__(self, consumer: str = "") -> None:
        super().__init__()
        self._consumer = consumer

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        task = getattr(record, "task", None) or running.get()
        if task is not None:
            line |= {"task_id": task.id, "type": task.type, "attempt": task.attempt, "delivery": task.number}
        if self._consumer:
            line["consumer"] = self._consumer
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(log_format: str, consumer: str = "") -> None:
    """Log to standard error, level INFO and above."""
    if log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter(consumer))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
