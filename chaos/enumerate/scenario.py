"""The fixed small workload that every case of an enumeration goes through, and what a case is.

Tasks that succeed, one that fails and is retried, one that always fails, one that a dead worker had begun, one that
comes while the worker waits, and an orderly stop in the middle of a task with others behind it.
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
"""What a queue may fail at without being killed at any point: then it is left out, and said."""


def _task(number: int, work_ms: int, behaviour: str = "") -> PlannedTask:
    return PlannedTask(task_id(0, number), 0.0, work_ms, behaviour=behaviour)


FIRST = (_task(1, 20), _task(2, 10, "raise-once"), _task(3, 10, "raise-always"), _task(4, 10))
LATE = _task(5, 10)
RUNNING, *_ = LAST = (_task(6, LONG_MS), _task(7, 10), _task(8, 10))
LEFT = _task(9, LONG_MS)
ALL_TASKS = (*FIRST, LATE, *LAST, LEFT)


@dataclass(frozen=True)
class Prepared:
    """What the killed worker has left: the database, and the history so far."""

    snapshot: Snapshot
    events: Path


@dataclass(frozen=True)
class Case:
    """One worker after the other is killed, each at its crash; with none, it is a recording."""

    crashes: tuple[Crash, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a case. `seen`: what each worker sent, the last one being that which recovered in peace."""

    result: Result
    reached: bool
    seen: tuple[tuple[Point, ...], ...]
    redelivery_ms: float | None
