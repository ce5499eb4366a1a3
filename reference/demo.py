"""The default handlers of `python -m zeroloss.reference up`, without an application."""

import logging
import time

from .queue.task import Task
from .worker.handlers import handler

logger = logging.getLogger(__name__)


@handler("default")
def show(task: Task) -> None:
    """Log that the task arrived."""
    logger.info("Task %s, attempt %d: %r", task.id, task.attempt, task.payload)


@handler("sleep")
def sleep(task: Task) -> None:
    """Sleep for the number of seconds in the payload, so that there is time to kill a process."""
    time.sleep(float(task.payload))
