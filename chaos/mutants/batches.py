"""Mutants that are wrong where many tasks are moved at once."""

from collections.abc import Sequence
from typing import Any

import redis
from zeroloss.reference.queue import consumer, enqueuer, reaper
from zeroloss.reference.queue.enqueuer import Enqueuer, Submission
from zeroloss.reference.queue.errors import NotAccepted, OutcomeUnknown
from zeroloss.reference.queue.reaper import Reaper

from .mutant import mutant
from .patching import edit, patch
from .profiles import BURST, DEFAULT, DUE_TOGETHER

PART = 100


@mutant(expects="LOST", breaks="I2", profile=BURST)
def recovery_of_a_hundred() -> None:
    """A recovery takes the newest hundred of a dead worker's tasks and deletes the list."""

    def newest_once(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return [] if asked.pop() else newest(client, keys, arguments)

    def recover(self: Any, name: str) -> int:
        asked[:] = [True, False]
        moved: int = original(self, name)
        if moved:
            self._client.delete(self._keys.processing(name))
        return moved

    asked: list[bool] = []
    newest = patch(reaper, "_NEWEST", newest_once)
    original = patch(Reaper, "recover", recover)


@mutant(expects="LOST", breaks="I2", profile=DUE_TOGETHER)
def promotion_of_five_hundred() -> None:
    """A promotion moves five hundred of the due retries and removes all."""
    edit(
        reaper,
        "_PROMOTE",
        "redis.call('ZREM', KEYS[1], unpack(due))",
        "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)",
    )


@mutant(expects="LOST", breaks="I2", profile=DEFAULT)
def batch_of_a_thousand() -> None:
    """Of a batch the first thousand are pushed, and all are promised."""
    edit(enqueuer, "_ENQUEUE", "for first = 1, #new, 1000 do", "for first = 1, math.min(#new, 1000), 1000 do")


@mutant(breaks="I3", profile=DEFAULT, blind_spot="A hundred tasks seldom end within one round trip.")
def acks_of_a_hundred() -> None:
    """Of what is finished the first hundred are acked in one step, and the rest is taken for acked."""

    def settle(self: Any, done: Sequence[bytes], limit: int) -> Any:
        return original(self, done[:PART], limit)

    original = patch(consumer.Consumer, "settle", settle)


@mutant(breaks="I6", profile=DEFAULT, blind_spot="A loss of Redis seldom falls into the moment of one batch.")
def batch_in_parts() -> None:
    """A batch is pushed a hundred at a time; where one part fails, all of it is answered as not accepted."""

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
