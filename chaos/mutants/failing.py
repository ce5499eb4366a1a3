"""Mutants that retry, count or give up wrongly."""

from collections.abc import Sequence
from typing import Any

import redis
from zeroloss.reference.queue import consumer, dead_letters, reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.reaper import Reaper

from .claiming import LOOKS_AGAIN
from .mutant import mutant
from .patching import configure, counted, edit, patch
from .profiles import BAD_LINE, DEFAULT, HANDLERS, POISON

NO_BOUND = 1_000_000_000
BUDGET = "head.retries, head.recoveries = 0, 0"


@mutant(expects="LOST", breaks="I1", profile=BAD_LINE)
def retry_in_two_steps() -> None:
    """A failed task is removed by one command and put among the delayed by the next."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> int:
        now: Any = client.time()
        number, delay_ms = arguments
        entry: Any = client.hget(keys[0], number)
        if not client.hdel(keys[0], number):
            return 0
        client.zadd(keys[1], {counted(entry, retries=1): now[0] * 1000 + delay_ms})
        return 1

    patch(consumer, "_RETRY", in_two_steps)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def dead_letter_without_the_push() -> None:
    """A task that is given up is removed, and is not added to the dead letters."""
    bury = "local refusal = bury(KEYS[2], entry, ARGV[3], ARGV[4], ARGV[5], ARGV[6])"
    edit(consumer, "_DEAD_LETTER", bury, "local refusal = nil")


@mutant(expects="STUCK", breaks="I5", profile=HANDLERS)
def retries_uncounted() -> None:
    """A task whose handler always raises is retried forever."""
    configure(Consumer, max_retries=NO_BOUND)


@mutant(expects="FAILED", breaks="I5", profile=HANDLERS)
def gives_up_at_once() -> None:
    """A task is given up at the first failure of its handler."""
    configure(Consumer, max_retries=0)


@mutant(expects="STUCK", breaks="I5", profile=POISON)
def recoveries_uncounted() -> None:
    """A task that kills its worker is recovered forever."""
    configure(Reaper, max_recoveries=NO_BOUND)


def _drop(*, readable: bool) -> None:
    def drop(self: Any, claimed: Claimed, error: str, **named: Any) -> None:
        if readable == ("task_id" in named):
            self.settle([claimed.number], 0)
        else:
            original(self, claimed, error, **named)

    original = patch(Consumer, "dead_letter", drop)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def unknown_type_dropped() -> None:
    """A task without a registered handler is removed."""
    _drop(readable=True)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def undecodable_deleted() -> None:
    """An entry that cannot be decoded is removed."""
    _drop(readable=False)


@mutant(expects="CORRUPT", breaks="I6", profile=HANDLERS)
def payload_by_cjson() -> None:
    """A task that is retried or recovered is encoded again by Lua's cjson: long numbers are rounded, [] becomes {}."""
    body = "string.sub(entry, head.body)"
    for owner, script in ((consumer, "_RETRY"), (reaper, "_RECOVER")):
        edit(owner, script, f".. {body}", f".. cjson.encode(cjson.decode({body}))")


@mutant(expects="PHANTOM", breaks="I6", profile=HANDLERS)
def retry_renamed() -> None:
    """A retry is a new task with a new id, which was never submitted."""
    edit(consumer, "_RETRY", "delay(KEYS[2]", "entry = string.gsub(entry, '\"id\":\"', '%0again-', 1)\ndelay(KEYS[2]")


@mutant(breaks="I7", profile=DEFAULT, blind_spot="Only what is accepted by one call is held to its priority.")
def retry_loses_its_priority() -> None:
    """A task that is retried comes back with the default priority."""
    raised = "head.attempt, head.retries = head.attempt + 1, head.retries + 1"
    edit(consumer, "_RETRY", raised, f"{raised}\nhead.priority = 'd'")


@mutant(breaks="I7", profile=DEFAULT, blind_spot="Only what is accepted by one call is held to its priority.")
def requeue_loses_its_priority() -> None:
    """A dead letter that is requeued comes back with the default priority."""
    edit(dead_letters, "_REQUEUE", BUDGET, f"{BUDGET}\n    head.priority = 'd'")


@mutant(breaks="I4", profile=DEFAULT, blind_spot=LOOKS_AGAIN)
def requeue_does_not_ring() -> None:
    """A dead letter that is requeued does not ring the bell."""
    edit(dead_letters, "_REQUEUE", "ring()\nreturn {requeued", "return {requeued")
