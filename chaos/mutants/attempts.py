"""Mutants that count wrongly: tasks, attempts, failures."""

from itertools import count
from typing import Any

from zeroloss.reference.queue import consumer, reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Enqueuer, Submission
from zeroloss.reference.queue.task import decode, revise

from .mutant import UNEXPLAINED, mutant
from .patching import configure, patch
from .profiles import BACKLOG, HANDLERS, KILLS, ZOMBIE

TWICE_EVERY = 200


@mutant(expects=UNEXPLAINED, breaks="I6", profile=BACKLOG)
def pushed_twice() -> None:
    """One task in 200 is pushed twice."""
    numbers = count(1)

    def enqueue(self: Any, submission: Submission) -> Any:
        if next(numbers) % TWICE_EVERY == 0:
            original(self, submission)
        return original(self, submission)

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects="ATTEMPTS_GROW", breaks="I3", profile=KILLS)
def recovery_keeps_the_attempt() -> None:
    """A task that is recovered comes back under the number of the attempt that vanished."""

    def unchanged(element: bytes, **changes: Any) -> bytes:
        return element if list(changes) == ["recovered_count"] else revise(element, **changes)

    patch(reaper, "revise", unchanged)


@mutant(expects="ATTEMPTS_GROW", breaks="I3", profile=ZOMBIE)
def recovery_forgets_retries() -> None:
    """A task that is recovered has all its retries again."""

    def forgetful(element: bytes, **changes: Any) -> bytes:
        return revise(element, **changes, retry_count=0)

    patch(reaper, "revise", forgetful)


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=HANDLERS)
def one_retry_too_few() -> None:
    """A task is given up one retry too early."""
    configure(Consumer, max_retries=lambda config: config.max_retries - 1)


@mutant(expects=("MAX_ATTEMPTS", "STUCK"), breaks="I5", profile=HANDLERS)
def failure_counted_as_recovery() -> None:
    """A failure of a handler is counted among the recoveries, and never reaches the bound of the retries."""

    def miscounted(element: bytes, **changes: Any) -> bytes:
        if list(changes) == ["retry_count"]:
            return revise(element, recovered_count=decode(element).recovered_count + 1)
        return revise(element, **changes)

    patch(consumer, "revise", miscounted)
