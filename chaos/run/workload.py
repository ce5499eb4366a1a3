"""Hands the planned tasks to the agent when they are due: a backlog at once, a trickle once workers work."""

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from ..faults.planned import PlannedTask
from ..plan.plan import Plan
from ..system.submitter import Submitter

JOIN_DEADLINE_S = 30.0


class Workload(threading.Thread):
    """A thread that submits a plan's tasks, open loop: a slow queue is not given less. `failure`: what ended it.

    After what is due at once it waits for `go_on`, from which the plan's times count: else workers that start slowly,
    as on a busy machine, would find all of the run in one heap, and faults nothing that is still to come.
    """

    def __init__(self, plan: Plan, submitter: Submitter) -> None:
        super().__init__(name="workload", daemon=True)
        self._plan, self._submitter = plan, submitter
        self._stopping, self._working = threading.Event(), threading.Event()
        self.failure: BaseException | None = None

    def go_on(self) -> None:
        """The workers work, or have had their time to begin."""
        self._working.set()

    def close(self) -> None:
        """Submit no more."""
        self._stopping.set()
        self._working.set()
        if self.ident is not None:
            self.join(JOIN_DEADLINE_S)

    def run(self) -> None:
        begun_s = 0.0
        try:
            for tasks in together(self._plan.tasks):
                if tasks[0].at_s and not begun_s:
                    self._working.wait()
                    begun_s = time.monotonic()
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
