"""Mutants that promise wrongly."""

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

import redis
from msgspec.structs import replace
from zeroloss.reference.queue import consumer, enqueuer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing import push
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import NotAccepted, OutcomeUnknown, QueueFull
from zeroloss.reference.queue.task import new_task_id

from .mutant import UNEXPLAINED, mutant
from .patching import edit, patch, resubmit, ring
from .profiles import CALM, DEFAULT, DOWN, FULL, STALL, STALL_ASKED_ONCE, VARIED

CANARY_EVERY = 500
SOCKET_TIMEOUT_S = 5.0


@mutant(expects="LOST", breaks="I2", profile=DOWN)
def enqueue_error_swallowed() -> None:
    """A task is promised even if Redis could not be reached."""

    def enqueue(self: Any, submission: Submission) -> Any:
        try:
            return original(self, submission)
        except (NotAccepted, OutcomeUnknown):
            return Accepted(submission.task_id or new_task_id(), replayed=False)

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects=UNEXPLAINED, breaks="I8", profile=STALL_ASKED_ONCE)
def default_retries() -> None:
    """The producer's client repeats a command after a lost reply, as redis-py does by default."""
    # A client that is made by `from_url` retries nothing in redis-py 8.
    parse_url: Any = redis.connection.parse_url
    client = redis.Redis(**parse_url(os.environ["REDIS_URL"]), socket_timeout=SOCKET_TIMEOUT_S)
    source = push.ENQUEUE.source

    def repeating(_client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return client.eval(source, len(keys), *keys, *arguments)

    patch(enqueuer, "ENQUEUE", repeating)


@mutant(expects="LOST", breaks="I8", profile=STALL)
def idempotency_in_two_steps() -> None:
    """An idempotency key is taken by one command, and its task is pushed by the next."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        _, _, ttl_ms, lengths, texts, priorities, _, _, _, *guards = arguments
        answers: list[Any] = [0]
        repeated = set()
        for key, (place, digest, task_id) in zip(keys[6:], zip(*[iter(guards)] * 3, strict=True), strict=True):
            taken = client.set(key, digest + task_id, px=ttl_ms, nx=True)
            answers.append(b"" if taken else b"=" + task_id.encode())
            if not taken:
                repeated.add(place)
        first = 0
        for place, (length, priority) in enumerate(zip(map(int, lengths.split()), priorities, strict=True), start=1):
            if place not in repeated:
                header = f"{priority},1,0,0,{client.time()[0] * 1000},0,;"
                client.lpush(keys["hdl".index(priority) + 1], header.encode() + texts[first : first + length])
            first += length
        ring(client, keys[:4])
        return answers

    patch(enqueuer, "ENQUEUE", in_two_steps)


@mutant(expects="ACCEPTS", breaks="I6", profile=CALM)
def ids_collide() -> None:
    """Two tasks that are submitted one after the other are given the same id."""

    def shared(submission: Submission) -> Submission:
        prefix, _, number = (submission.task_id or new_task_id()).rpartition("-")
        return replace(submission, task_id=f"{prefix}-{int(number, 16) & ~1:0{len(number)}x}")

    resubmit(shared)


@mutant(expects=("GHOST", UNEXPLAINED), breaks="I6", profile=FULL)
def bound_after_the_push() -> None:
    """The queue limit is checked after the task was pushed: the task is refused, but runs."""

    def push(self: Any, call: Any) -> Any:
        call.max_pending = 1_000_000_000
        answers = original(self, call)
        length = self._client.llen(self._keys.pending)
        if length > self._config.max_pending:
            raise QueueFull(length, self._config.max_pending)
        return answers

    original = patch(Enqueuer, "_push", push)


@mutant(expects="LOST", breaks="I2", profile=DEFAULT)
def canary() -> None:
    """One task in 500 is promised and dropped; everything else is correct."""
    numbers = count(1)

    def enqueue(self: Any, submission: Submission) -> Any:
        if next(numbers) % CANARY_EVERY == 0:
            return Accepted(submission.task_id or new_task_id(), replayed=False)
        return original(self, submission)

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects="DELAYS", breaks="I7", profile=VARIED)
def scheduled_task_begun_at_once() -> None:
    """A task that is scheduled for later is pending at once."""
    edit(enqueuer, "ENQUEUE", "if time and time > now then", "if false then")


@mutant(breaks="I1", profile=DEFAULT, blind_spot="No run has two tasks that are equal to the last byte.")
def equal_delayed_tasks_are_one() -> None:
    """One of two identical delayed tasks is lost, because their entries have no salt."""
    for owner, script in ((enqueuer, "ENQUEUE"), (consumer, "_RETRY")):
        edit(owner, script, "'NX', due, salted) == 0", "due, salted) < 0")
