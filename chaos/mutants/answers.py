"""Mutants whose producer answers a client wrongly, or takes a request for another than it is."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import falcon
import redis
from msgspec.structs import replace
from zeroloss.reference.queue import enqueuer
from zeroloss.reference.queue.durability import Durability
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import NotAccepted
from zeroloss.reference.queue.task import new_task_id

from .mutant import UNEXPLAINED, mutant
from .patching import edit, patch
from .profiles import DEFAULT, DOWN, FULL_MEMORY, LOST_REPLIES, SLOW_DISK, STALL_ASKED_ONCE, VARIED


@mutant(expects="GHOST", breaks="I6", profile=STALL_ASKED_ONCE)
def lost_reply_is_a_refusal() -> None:
    """After a lost reply from Redis the producer reports that nothing was accepted."""

    patch(enqueuer, "OutcomeUnknown", NotAccepted)


@mutant(expects="LOST", breaks="I2", profile=DOWN)
def answered_before_the_push() -> None:
    """A task is promised at once, and pushed by a thread in the background, whose errors are ignored."""
    pushing = ThreadPoolExecutor(1)

    def enqueue(self: Any, submission: Submission) -> Any:
        named = replace(submission, task_id=submission.task_id or new_task_id())
        pushing.submit(original, self, named)
        return Accepted(str(named.task_id), replayed=False)

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects=("CORRUPT", "FAILED"), breaks="I6", profile=VARIED)
def body_in_latin_1() -> None:
    """A request body without a charset is decoded as Latin-1."""
    from zeroloss.reference.http.intake import Intake  # only here: for other mutants a worker need not load it

    def misread(read: Any) -> Any:
        return lambda self, expected, body: read(self, expected, body.decode("latin-1").encode())

    Intake.read_one, Intake.read_many = misread(Intake.read_one), misread(Intake.read_many)  # type: ignore[method-assign]


@mutant(expects="LOST", breaks="I2", profile=SLOW_DISK)
def unread_confirmation() -> None:
    """The producer asks Redis whether a task is on disk, but ignores the answer."""

    def confirm(self: Any, connection: Any) -> None:
        self._shortfall(connection, self.timeout_ms)

    patch(Durability, "confirm", confirm)


@mutant(expects=("ATTEMPTS_GROW", UNEXPLAINED), breaks="I3", profile=LOST_REPLIES)
def pushed_again() -> None:
    """After a lost reply from Redis the producer pushes the task a second time."""

    def push(self: Any, call: Any) -> Any:
        try:
            return original(self, call)
        except redis.ConnectionError:
            return original(self, call)

    original = patch(Enqueuer, "_push", push)


@mutant(expects="ACCEPTS", breaks="I2", profile=DEFAULT)
def part_of_a_batch_is_all() -> None:
    """A partly refused batch is answered 202, like a fully accepted one."""
    patch(falcon, "HTTP_207", falcon.HTTP_202)


@mutant(expects="DRAINS_WHEN_FULL", breaks="I2", profile=FULL_MEMORY)
def accepted_when_full() -> None:
    """New tasks are accepted beyond the server's `maxmemory`, without any bound."""
    edit(enqueuer, "ENQUEUE", "#!lua\n", "#!lua flags=allow-oom\n")
