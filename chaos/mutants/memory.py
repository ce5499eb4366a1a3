"""Mutants that keep resources they no longer need."""

import threading
from typing import Any

from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.worker.claimer import Claimer

from .mutant import LEAK, mutant
from .patching import patch
from .profiles import DEFAULT, RECONNECTS


@mutant(
    breaks="I4",
    profile=DEFAULT,
    blind_spot="It grows with the tasks and not with the faults, by less than a run can tell.",
)
def every_task_kept() -> None:
    """A worker keeps every task that it has run."""
    kept: list[Any] = []

    def take_back(self: Any, delivery: Any) -> None:
        kept.append(delivery)
        original(self, delivery)

    original = patch(Claimer, "_take_back", take_back)


@mutant(expects=LEAK, breaks="I4", profile=RECONNECTS)
def a_thread_for_each_failure() -> None:
    """Each failure of a handler starts a thread that never ends."""

    def fail(self: Any, *arguments: Any) -> Any:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return original(self, *arguments)

    original = patch(Consumer, "fail", fail)
