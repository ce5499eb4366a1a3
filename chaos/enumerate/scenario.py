"""The fixed small workload of every case of an enumeration, and the definition of a case.

The workload: tasks that succeed, one that fails and is retried, one that always fails, one that a dead worker had
begun, one that arrives while the worker waits, and an orderly stop in the middle of a task with others behind it.
"""

from dataclasses import dataclass
from pathlib import Path

from ..checker.verdicts import Result
from ..faults.planned import PlannedTask
from ..plan.plan import task_id
from ..system.proxy import Point
from .plan import Crash
from .slot import Snapshot

LONG_MS = 250
COLLEAGUE, STOP = "colleague", "stop"
OPTIONAL_STEPS = (COLLEAGUE, STOP)
"""Steps that are left out, and reported, if the queue fails at them without any crash point."""


def _task(number: int, work_ms: int, behaviour: str = "") -> PlannedTask:
    return PlannedTask(task_id(0, number), 0.0, work_ms, behaviour=behaviour)


FIRST = (_task(1, 20), _task(2, 10, "raise-once"), _task(3, 10, "raise-always"), _task(4, 10))
LATE = _task(5, 10)
RUNNING, *_ = LAST = (_task(6, LONG_MS), _task(7, 10), _task(8, 10))
LEFT = _task(9, LONG_MS)
ALL_TASKS = (*FIRST, LATE, *LAST, LEFT)


@dataclass(frozen=True)
class Prepared:
    """The state that the killed worker left: the database, and the history so far."""

    snapshot: Snapshot
    events: Path


@dataclass(frozen=True)
class Case:
    """Workers are killed one after the other, each at its crash. A case without crashes is a recording."""

    crashes: tuple[Crash, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case. `seen`: the commands of each worker; the last worker recovered undisturbed."""

    result: Result
    reached: bool
    seen: tuple[tuple[Point, ...], ...]
    redelivery_ms: float | None
