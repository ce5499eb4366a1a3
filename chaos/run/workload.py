"""Hands the planned tasks to the agent when they are due: a backlog at once, then a trickle."""

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from ..faults.planned import PlannedTask
from ..plan.plan import Plan
from ..system.submitter import Submitter

JOIN_DEADLINE_S = 30.0


class Workload(threading.Thread):
    """A thread that submits a plan's tasks, open loop: a slow queue is not given less. `failure`: what ended it."""

    def __init__(self, plan: Plan, submitter: Submitter) -> None:
        super().__init__(name="workload", daemon=True)
        self._plan, self._submitter = plan, submitter
        self._stopping = threading.Event()
        self.failure: BaseException | None = None

    def close(self) -> None:
        """Submit no more."""
        self._stopping.set()
        if self.ident is not None:
            self.join(JOIN_DEADLINE_S)

    def run(self) -> None:
        begun_s = time.monotonic()
        try:
            for tasks in together(self._plan.tasks):
                early_s = tasks[0].at_s - (time.monotonic() - begun_s)
                if self._stopping.wait(early_s) if early_s > 0 else self._stopping.is_set():
                    return
                self._submitter.enqueue(*(task.task() for task in tasks))
        except BaseException as error:  # noqa: BLE001 - it must reach the run, whatever it is
            self.failure = error


def together(tasks: Iterable[PlannedTask]) -> Iterator[list[PlannedTask]]:
    """What is submitted in one call each: a batch, or a single task."""
    for batch, members in groupby(tasks, key=lambda task: task.batch):
        if batch:
            yield list(members)
        else:
            yield from ([task] for task in members)
