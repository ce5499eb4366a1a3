"""Mutants that retry, count or give up wrongly."""

import os
from collections.abc import Sequence
from typing import Any

import redis
from zeroloss.reference.queue import consumer, reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.queue.task import Task, new_task_id, revise

from .mutant import mutant
from .patching import configure, edit, patch
from .profiles import BAD_LINE, HANDLERS, POISON

NO_BOUND = 1_000_000_000


@mutant(expects="LOST", breaks="I1", profile=BAD_LINE)
def retry_in_two_steps() -> None:
    """A failed task is removed by one command and put among the delayed by the next."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> int:
        now: Any = client.time()
        element, changed, delay_ms = arguments
        if not client.lrem(keys[0], -1, element):
            return 0
        client.zadd(keys[1], {changed: now[0] * 1000 + delay_ms})
        return 1

    patch(consumer, "_RETRY", in_two_steps)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def dead_letter_without_the_push() -> None:
    """A task that is given up is removed, and the dead-letter list is forgotten."""
    edit(consumer, "_DEAD_LETTER", "redis.call('LPUSH', KEYS[2], stamped(ARGV[1], ARGV[2]))", "")


@mutant(expects="STUCK", breaks="I5", profile=HANDLERS)
def retries_uncounted() -> None:
    """A task whose handler always raises is retried for ever."""
    configure(Consumer, max_retries=NO_BOUND)


@mutant(expects="FAILED", breaks="I5", profile=HANDLERS)
def gives_up_at_once() -> None:
    """A task is given up at the first failure of its handler."""
    configure(Consumer, max_retries=0)


@mutant(expects="STUCK", breaks="I5", profile=POISON)
def recoveries_uncounted() -> None:
    """A task that kills its worker is recovered for ever."""
    configure(Reaper, max_recoveries=NO_BOUND)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def unknown_type_dropped() -> None:
    """A task whose type no handler is registered for is removed."""

    def drop(self: Any, task: Task, _error: str) -> None:
        self.settle([task.element], 0)

    patch(Consumer, "dead_letter", drop)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def undecodable_deleted() -> None:
    """What cannot be decoded is removed."""

    def drop(self: Any, element: bytes) -> None:
        self.settle([element], 0)

    patch(Consumer, "dead_letter_undecodable", drop)


@mutant(expects="CORRUPT", breaks="I6", profile=HANDLERS)
def payload_by_cjson() -> None:
    """A task that is retried or recovered is encoded anew by Lua's cjson: long numbers are rounded, [] becomes {}."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    def encoded_anew(element: bytes, **changes: Any) -> Any:
        return client.eval("return cjson.encode(cjson.decode(ARGV[1]))", 0, revise(element, **changes))

    patch(consumer, "revise", encoded_anew)
    patch(reaper, "revise", encoded_anew)


@mutant(expects="PHANTOM", breaks="I6", profile=HANDLERS)
def retry_renamed() -> None:
    """A retry is a new task with a new id, which nobody has submitted."""

    def renamed(element: bytes, **changes: Any) -> bytes:
        return revise(element, **changes) if "error" in changes else revise(element, id=new_task_id(), **changes)

    patch(consumer, "revise", renamed)
