"""The handlers of `python -m zeroloss.reference up` where no application is named."""

import logging
import time

from .queue.task import Task
from .worker.handlers import handler

logger = logging.getLogger(__name__)


@handler("default")
def show(task: Task) -> None:
    """Say that the task arrived."""
    logger.info("Task %s, attempt %d: %r", task.id, task.attempt, task.payload)


@handler("sleep")
def sleep(task: Task) -> None:
    """Take as many seconds as the payload says, so that there is time to kill something."""
    time.sleep(float(task.payload))
