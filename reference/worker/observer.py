"""What a worker process reports of each task, for metrics; the queue itself does not need it."""

from typing import Protocol

from ..queue.task import Task

SUCCEEDED, RETRIED, DEAD_LETTERED = "succeeded", "retried", "dead_lettered"


class Observer(Protocol):
    """Called in the worker's own threads: it must be quick, and raise nothing."""

    def begun(self, task: Task, waited_s: float | None) -> None:
        """A handler begins. `waited_s`: since enqueue, or the due time; None: not its first attempt, or not known."""

    def ended(self, task: Task, seconds: float) -> None:
        """Its handler has returned or raised, after that long."""

    def settled(self, task: Task, outcome: str) -> None:
        """Redis knows what came of it: one of this module's outcomes. One of no known type was never begun."""
