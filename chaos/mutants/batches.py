"""Mutants that fail when many tasks are moved at once."""

from collections.abc import Sequence
from typing import Any

from zeroloss.reference.queue import consumer, enqueuer, reaper
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import NotAccepted, OutcomeUnknown

from .mutant import mutant
from .patching import edit, patch
from .profiles import BURST, DEFAULT, DUE_TOGETHER, FULL_HANDS

PART = 100


@mutant(expects="LOST", breaks="I2", profile=BURST)
def recovery_of_a_hundred() -> None:
    """A recovery takes the newest hundred of a dead worker's tasks and deletes the list."""
    edit(reaper, "_RECOVER", "local left =", "redis.call('DEL', KEYS[5])\nlocal left =")


@mutant(expects="RECOVERS_IN_ORDER", breaks="I7", profile=FULL_HANDS)
def recovery_order_as_text() -> None:
    """The tasks of a dead worker return in text order of their numbers: 10 before 9, and 100 before 99."""
    edit(reaper, "_RECOVER", "return place(a) > place(b)", "return a > b")


@mutant(expects="LOST", breaks="I2", profile=DUE_TOGETHER)
def promotion_of_five_hundred() -> None:
    """A promotion moves five hundred of the due retries and removes all."""
    patch(reaper, "MOVE_BATCH", 500)
    rest = "redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now)"
    edit(reaper, "_PROMOTE", "if moved > 0 then ring() end", f"if moved > 0 then ring() end\n{rest}")


@mutant(expects="LOST", breaks="I2", profile=DEFAULT)
def batch_of_a_thousand() -> None:
    """Only the first thousand tasks of a batch are pushed, though all are promised."""
    edit(enqueuer, "ENQUEUE", "for from = 1, #batch, 1000 do", "for from = 1, math.min(#batch, 1000), 1000 do")


@mutant(expects="LOST", breaks="I2", profile=DEFAULT)
def last_of_each_thousand() -> None:
    """Every thousandth task of a batch is not pushed, though all are promised."""
    edit(enqueuer, "ENQUEUE", "math.min(from + 999, #batch)", "math.min(from + 998, #batch)")


@mutant(breaks="I3", profile=DEFAULT, blind_spot="A hundred tasks seldom end within one round trip.")
def acks_of_a_hundred() -> None:
    """Only the first hundred finished tasks are acked in one step; the worker treats the rest as acked."""

    def settle(self: Any, done: Sequence[int], limit: int) -> Any:
        return original(self, done[:PART], limit)

    original = patch(consumer.Consumer, "settle", settle)


@mutant(breaks="I6", profile=DEFAULT, blind_spot="A loss of Redis seldom falls into the moment of one batch.")
def batch_in_parts() -> None:
    """A batch is pushed in parts of a hundred; if one part fails, the whole batch is reported as not accepted."""

    def enqueue_many(self: Any, submissions: Sequence[Submission]) -> Any:
        outcomes: list[Any] = []
        for first in range(0, len(submissions), PART):
            try:
                outcomes += original(self, submissions[first : first + PART])
            except OutcomeUnknown as error:
                if len(submissions) <= PART:
                    raise
                raise NotAccepted(str(error)) from error
        return outcomes

    original = patch(Enqueuer, "enqueue_many", enqueue_many)
