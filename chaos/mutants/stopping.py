"""Mutants that shut down in the wrong order."""

import os
import time
from collections.abc import Iterable
from typing import Any

from zeroloss.reference.queue import consumer
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.worker import supervisor
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.process import GRACE_STATUS, Worker

from .mutant import mutant
from .patching import edit, patch
from .profiles import DEFAULT, GIVEN_BACK, LET_GO, SIGINT, SIGTERM, SIGTERM_TWICE


@mutant(expects="GRACE", breaks="I4", profile=SIGTERM)
def no_grace() -> None:
    """A worker that is asked to stop exits at once, and leaves its running tasks to recovery."""
    patch(Worker, "_finish", lambda _self: False)


@mutant(expects="GRACE", breaks="I4", profile=SIGINT)
def second_signal_ends() -> None:
    """A worker process that is asked to end twice, by everybody's signal and by its parent, does so at once."""

    def on_signal(self: Any, *signalled: Any) -> None:
        if self._signalled:
            os._exit(GRACE_STATUS)
        original(self, *signalled)

    original = patch(Worker, "_on_signal", on_signal)


@mutant(expects="GRACE", breaks="I4", profile=SIGTERM_TWICE)
def same_signal_ends() -> None:
    """A pool that gets the signal to stop twice within moments ends at once."""
    patch(supervisor, "AGAIN_S", 0.0)


@mutant(expects="GRACE", breaks="I3", profile=LET_GO)
def lease_let_go() -> None:
    """A worker that shuts down stops renewing its lease while its last tasks still run."""

    def renew(self: Any) -> None:
        if self._stopping and not self._unsure:
            self._renew_at = time.monotonic() + self._config.renew_ms / 1000
        else:
            original(self)

    original = patch(Claimer, "_renew", renew)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=SIGTERM)
def leaves_with_tasks_in_hand() -> None:
    """A worker that shuts down leaves the registry while it holds tasks, so recovery can no longer find them."""
    edit(consumer, "LEAVE", "redis.call('HLEN', KEYS[5]) == 0", "true")

    def turn(self: Any) -> None:
        if self._stopping:
            self.left = self._consumer.leave().left
        else:
            original(self)

    original = patch(Claimer, "turn", turn)


@mutant(
    breaks="I7",
    profile=DEFAULT,
    blind_spot="What is given back is passed for less time than the order allows.",
)
def given_back_to_the_end() -> None:
    """Tasks that a worker gives back go to the end of the queue."""
    for script in ("_RELEASE", "LEAVE"):
        edit(consumer, script, "'RPUSH', pending(heading(entry))", "'LPUSH', pending(heading(entry))")


@mutant(expects="RECOVERS_IN_ORDER", breaks="I7", profile=GIVEN_BACK)
def given_back_newest_first() -> None:
    """The tasks that a worker gives back return in reverse order."""

    def release(self: Any, numbers: Iterable[int]) -> int:
        return sum(original(self, [number]) for number in sorted(numbers))

    original = patch(Consumer, "release", release)
