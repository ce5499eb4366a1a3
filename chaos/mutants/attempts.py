"""Mutants that count wrongly: tasks, attempts, failures."""

from dataclasses import replace
from itertools import count
from typing import Any

from zeroloss.reference.queue import consumer, reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission

from .mutant import UNEXPLAINED, mutant
from .patching import configure, edit, patch
from .profiles import BACKLOG, DEFAULT, FULL_BACKLOG, HANDLERS, KILLS

TWICE_EVERY = 200
RECOVERED = "head.attempt, head.recoveries = head.attempt + 1, head.recoveries + 1"


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
    """A recovered task keeps the attempt number of the execution that was lost."""
    edit(reaper, "_RECOVER", RECOVERED, "head.recoveries = head.recoveries + 1")


@mutant(breaks="I5", profile=DEFAULT, blind_spot="A task that fails at every attempt is seldom recovered, too.")
def recovery_forgets_retries() -> None:
    """A recovery resets the task's count of retries."""
    edit(reaper, "_RECOVER", RECOVERED, f"{RECOVERED}\n    head.retries = 0")


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=HANDLERS)
def one_retry_too_few() -> None:
    """A task is given up one retry too early."""
    configure(Consumer, max_retries=lambda config: config.max_retries - 1)


@mutant(expects=("MAX_ATTEMPTS", "STUCK"), breaks="I5", profile=HANDLERS)
def failure_counted_as_recovery() -> None:
    """A handler's failure is counted as a recovery, so the retry limit is never reached."""
    raised = "head.attempt, head.retries = head.attempt + 1, head.retries + 1"
    edit(consumer, "_RETRY", raised, raised.replace("retries", "recoveries"))


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=DEFAULT)
def recoveries_counted_as_failures() -> None:
    """Recoveries count as failures, so a recovered task is given up after fewer retries."""

    def fail(self: Any, task: Any, error: str, traceback: str = "", config: Any = None, after_ms: Any = None) -> Any:
        config = config or self._config
        fewer = replace(config, max_retries=config.max_retries - (task.attempt - 1 - task.retries))
        return original(self, task, error, traceback, fewer, after_ms)

    original = patch(Consumer, "fail", fail)


@mutant(expects=("BACKOFF", "DRAINS_WHEN_FULL"), breaks="I5", profile=FULL_BACKLOG)
def failures_untold_when_full() -> None:
    """While the server's memory is full, a worker cannot report a failed task, and does nothing else."""
    edit(consumer, "_RETRY", "#!lua flags=allow-oom", "#!lua")
