"""The handlers that the reference's workers run under test."""

import asyncio
import os
import signal
import time

from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker.handlers import Retry, handler

from ..ledger import effect
from .reference import ASKING, ASYNCHRONOUS, Reference

RETRY_S = 0.7
"""Within what the reference waits before the first retry."""
HUNGRY_BYTES = 64 * 2**20
RAISED: dict[str, type[BaseException]] = {
    "raise-system-exit": SystemExit,
    "raise-keyboard-interrupt": KeyboardInterrupt,
    "raise-memory-error": MemoryError,
}


def work(task: Task) -> None:
    """Take as long as the plan says, and misbehave as it says."""
    # Its text as it lies in Redis: compared byte for byte with what was sent.
    with effect(task.payload["id"], attempt=task.attempt, payload=bytes(task.raw_payload)):
        time.sleep(_seconds(task))
        _misbehave(task)


async def work_asynchronously(task: Task) -> None:
    """The same, as a coroutine."""
    with effect(task.payload["id"], attempt=task.attempt, payload=bytes(task.raw_payload)):
        await asyncio.sleep(_seconds(task))
        _misbehave(task)


def _seconds(task: Task) -> float:
    hangs = task.attempt == 1 or task.payload.get("behaviour") != "hang-once"
    return float(task.payload["work_ms"]) / 1000 if hangs else 0.0


def _misbehave(task: Task) -> None:
    behaviour = task.payload.get("behaviour")
    first = task.attempt == 1
    if behaviour == "exit-once" and first:
        os._exit(1)
    if behaviour == "raise-once" and first and task.type == ASKING:
        raise Retry("as planned", after=RETRY_S)
    if behaviour == "raise-always" or (behaviour == "raise-once" and first):
        raise RuntimeError("as planned")
    if behaviour in RAISED and first:
        raise RAISED[behaviour]("as planned")
    if behaviour == "hungry":
        bytearray(HUNGRY_BYTES)
    if behaviour == "exit":
        os.kill(os.getpid(), signal.SIGKILL)


for task_type in Reference.types:
    handler(task_type)(work_asynchronously if task_type == ASYNCHRONOUS else work)
