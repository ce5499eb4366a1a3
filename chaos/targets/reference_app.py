"""The handlers that the reference's workers run under test."""

import time

from chaos.ledger import effect
from reference.handlers import handler
from reference.task import Task


@handler("chaos")
def work(task: Task) -> None:
    """Take as long as the plan says."""
    with effect(task.id, attempt=task.attempt, payload=task.payload):
        time.sleep(task.payload["work_ms"] / 1000)
