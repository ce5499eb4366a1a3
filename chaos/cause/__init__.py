"""Why tasks got lost: where in their lives, by which fault, and what they have in common. Explains the result."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ..checker.evidence import gather
from ..checker.verdicts import Result
from ..faults.planned import PlannedTask
from ..history import Event
from ..history.trace import Trail, read_trails
from ..plan.plan import PLAN_NAME, Plan
from .sentences import MISSING, WRONG, cause_of
from .stories import TOLD, stories_of

__all__ = ["explained", "planned_tasks", "trails_of"]

EXPLAINED = frozenset({*MISSING, *WRONG, *TOLD})


def explained(directory: Path, result: Result, events: Iterable[Event]) -> Result:
    """Return the result with cause and stories, from the plan and the trace in the run's directory, if they exist."""
    if not EXPLAINED.intersection(result.fates.values()):
        return result
    evidence, trails = gather(events), trails_of(directory)
    return msgspec.structs.replace(
        result,
        cause=cause_of(evidence, result.fates, planned_tasks(directory), trails),
        stories=stories_of(evidence, result.fates, trails),
    )


def planned_tasks(directory: Path) -> Mapping[str, PlannedTask]:
    """Return id -> planned task; empty: there is no readable plan."""
    try:
        plan = msgspec.json.decode((directory / PLAN_NAME).read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return {task.id: task for task in plan.tasks}


def trails_of(directory: Path) -> Mapping[str, Trail]:
    """Return task -> its trail; empty: the run was not traced, or its trace can't be read."""
    try:
        return read_trails(directory)
    except (OSError, msgspec.MsgspecError):
        return {}
