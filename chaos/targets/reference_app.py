"""The handlers that the reference's workers run under test."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker.handlers import Reject, Retry, handler

from ..ledger import effect
from .reference import (
    ASKING,
    ASYNCHRONOUS,
    ASYNCHRONOUS_BACKOFF_S,
    LIMITED,
    LIMITED_ASYNCHRONOUS,
    TYPED,
    TYPED_BACKOFF_S,
    TYPED_RETRIES,
    UNRETRIED,
    Reference,
)

RETRY_S = 0.7
"""Delay, in seconds, that a handler requests for its retry: within the range of the first backoff."""
ERRORS = ("as planned", "as planned: half of a pair, \ud83d, a zero, \0, and lines\n\x85\u2028")
"""Texts of the errors. The second has characters that cannot be encoded, and line ends that would forge log lines."""
EXITS = 2
HUNGRY_BYTES = 64 * 2**20
RAISED: dict[str, type[BaseException]] = {
    "raise-system-exit": SystemExit,
    "raise-keyboard-interrupt": KeyboardInterrupt,
    "raise-memory-error": MemoryError,
}


def work(task: Task) -> Iterator[None] | None:
    """Take as long as the plan says, and misbehave as it says."""
    if task.payload.get("behaviour") == "lazy":
        return _lazily(task)
    with _effect(task):
        time.sleep(_seconds(task))
        _misbehave(task)
    return None


def _lazily(task: Task) -> Iterator[None]:
    """Make a generator, which nothing runs: a handler must not return its work in this form."""
    with _effect(task):
        yield


class Payload(msgspec.Struct):
    """The members that every task's payload has. The payload of a `misfit` does not match this type."""

    id: str
    work_ms: int
    behaviour: Annotated[str, msgspec.Meta(pattern="^(?!misfit$)")] = ""


def work_typed(task: Task, payload: Payload) -> None:
    """Do the same as `work`, with a typed payload."""
    if (payload.id, payload.work_ms) != (task.payload["id"], task.payload["work_ms"]):
        raise RuntimeError(f"The handler of {task.payload['id']} was handed the payload of {payload.id}.")
    work(task)


async def work_asynchronously(task: Task) -> None:
    """Do the same as `work`, as a coroutine."""
    with _effect(task):
        await asyncio.sleep(_seconds(task))
        _misbehave(task)


@contextmanager
def _effect(task: Task) -> Iterator[None]:
    """Record the body with the payload's bytes from Redis, which are compared byte for byte with what was sent.

    The body changes its payload in place, as handlers do: another execution must not see the change.
    """
    if "changed in place" in task.payload:
        raise RuntimeError("This payload is not the one that was sent: another execution has changed it.")
    with effect(task.payload["id"], attempt=task.attempt, payload=bytes(task.raw_payload)):
        task.payload["changed in place"] = True
        yield


def _seconds(task: Task) -> float:
    hangs = task.attempt == 1 or task.payload.get("behaviour") != "hang-once"
    return float(task.payload["work_ms"]) / 1000 if hangs else 0.0


def _text(task: Task) -> list[str]:
    """Return the arguments of an error: half of the errors have a text."""
    return ["as planned"][: len(task.raw_payload) % 2]


def _misbehave(task: Task) -> None:
    behaviour = task.payload.get("behaviour")
    first = task.attempt == 1
    if behaviour == "exit-once" and first:
        os._exit(1)
    if behaviour == "exit-twice" and task.attempt <= EXITS:
        os._exit(1)
    if behaviour == "reject":
        raise Reject(*_text(task))
    if behaviour == "raise-later" and first:
        raise Retry("as planned", after=Reference.asks_again_after)
    if behaviour == "raise-once" and first and task.type == ASKING:
        raise Retry("as planned", after=RETRY_S)
    if behaviour in ("raise-always", "unretried") or (behaviour == "exit-twice" and task.attempt == EXITS + 1):
        raise RuntimeError(ERRORS[len(task.raw_payload) % len(ERRORS)])
    if (behaviour == "raise-once" or behaviour in RAISED) and first:
        error = RAISED.get(behaviour, RuntimeError)
        if behaviour in RAISED and task.type == ASYNCHRONOUS:
            error = asyncio.CancelledError  # as if something that the coroutine awaits was cancelled
        raise error(*_text(task))
    if behaviour == "hungry":
        bytearray(HUNGRY_BYTES)
    if behaviour == "exit":
        os.kill(os.getpid(), signal.SIGKILL)


handler(ASYNCHRONOUS, backoff=ASYNCHRONOUS_BACKOFF_S)(work_asynchronously)
handler(LIMITED, timeout=Reference.time_limit)(work)
handler(LIMITED_ASYNCHRONOUS, timeout=Reference.time_limit)(work_asynchronously)
handler(UNRETRIED, max_retries=0)(work)
handler(TYPED, max_retries=TYPED_RETRIES, backoff=TYPED_BACKOFF_S)(work_typed)
for task_type in set(Reference.types) - {ASYNCHRONOUS, TYPED}:
    handler(task_type)(work)
