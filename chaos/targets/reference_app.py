"""The handlers that the reference's workers run under test."""

import os
import signal
import time

from zeroloss.reference.handlers import handler
from zeroloss.reference.task import Task

from ..ledger import effect

HUNGRY_BYTES = 64 * 2**20


@handler("chaos")
def work(task: Task) -> None:
    """Take as long as the plan says, and misbehave as it says."""
    behaviour = task.payload.get("behaviour")
    first = task.attempt == 1
    with effect(task.id, attempt=task.attempt, payload=task.payload):
        time.sleep(task.payload["work_ms"] / 1000 if first or behaviour != "hang-once" else 0)
        if behaviour == "exit-once" and first:
            os._exit(1)
        if behaviour == "raise-always" or (behaviour == "raise-once" and first):
            raise RuntimeError("as planned")
        if behaviour == "hungry":
            bytearray(HUNGRY_BYTES)
        if behaviour == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
