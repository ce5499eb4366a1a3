"""Hands the planned tasks to the agent when they are due: a backlog at once, then a trickle."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from ..faults.planned import PlannedTask
from ..plan.plan import Plan
from ..system.submitter import Submitter

JOIN_DEADLINE_S = 30.0
POLL_S = 0.02
FASTER = 4.0
"""Factor by which late tasks come faster than planned when they may catch up."""


class Workload(threading.Thread):
    """A thread that submits a plan's tasks, open loop: a slow queue gets no fewer. `failure`: the error that ended it.

    It waits only for the workers to begin, and for faults that take longer than planned, as on a busy machine.
    Otherwise all tasks would be done before the last faults hit.
    """

    def __init__(
        self,
        plan: Plan,
        submitter: Submitter,
        horizon: Callable[[], float],
        catches_up: Callable[[], bool] = lambda: False,
        has_begun: Callable[[int], bool] = lambda number: True,
    ) -> None:
        """`horizon` returns the second of the plan up to which tasks may be submitted now. `catches_up` returns whether
        late tasks may come faster than planned. `has_begun` returns whether the fault of a number has begun, or the
        last one was taken up.
        """
        super().__init__(name="workload", daemon=True)
        self._plan, self._submitter = plan, submitter
        self._horizon, self._catches_up, self._has_begun = horizon, catches_up, has_begun
        self._kept: dict[int, list[PlannedTask]] = {}  # number of a fault -> tasks to submit when it begins
        for task in plan.tasks:
            if task.fault:
                self._kept.setdefault(task.fault, []).append(task)
        self._stopping = threading.Event()
        self.failure: BaseException | None = None

    def close(self) -> None:
        """Submit no more tasks."""
        self._stopping.set()
        if self.ident is not None:
            self.join(JOIN_DEADLINE_S)

    def run(self) -> None:
        begun_s = due_s = time.monotonic()
        before_s = 0.0
        try:
            for tasks in together(task for task in self._plan.tasks if not task.fault):
                at_s = tasks[0].at_s
                while at_s > self._horizon():
                    if not self._goes_on_at(time.monotonic() + POLL_S):
                        return
                    due_s = time.monotonic() - (at_s - before_s)
                gap_s, before_s = at_s - before_s, at_s
                due_s = max(begun_s + at_s, due_s + gap_s / FASTER) if self._catches_up() else due_s + gap_s
                if not self._goes_on_at(due_s):
                    return
                self._submit(tasks)
            while self._kept and self._goes_on_at(time.monotonic() + POLL_S):
                pass
        except BaseException as error:  # noqa: BLE001 - it must reach the run, whatever it is
            self.failure = error

    def _goes_on_at(self, until_s: float) -> bool:
        """Wait, and meanwhile submit the tasks of faults that have begun. Return False if the workload was closed."""
        while not self._stopping.is_set():
            for number in [number for number in self._kept if self._has_begun(number)]:
                for tasks in together(self._kept.pop(number)):
                    self._submit(tasks)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return True
            self._stopping.wait(min(POLL_S, left_s))
        return False

    def _submit(self, tasks: Iterable[PlannedTask]) -> None:
        self._submitter.enqueue(*(task.task() for task in tasks))


def together(tasks: Iterable[PlannedTask]) -> Iterator[list[PlannedTask]]:
    """Yield the tasks of each call: a batch, or a single task."""
    for batch, members in groupby(tasks, key=lambda task: task.batch):
        if batch:
            yield list(members)
        else:
            yield from ([task] for task in members)
