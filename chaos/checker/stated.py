"""What the beginning of a history states: the planned faults, the doomed tasks, what the target promises."""

from collections.abc import Mapping
from typing import Any

from ..history import Run


def planned_faults(begin: Run) -> list[tuple[int, str, bool]]:
    """(number, name, everywhere) of the faults in a plan that lists them: one that was never begun is missed too."""
    listed = begin.plan.get("faults") if isinstance(begin.plan, Mapping) else None
    if not isinstance(listed, list):
        return []
    return [
        (fault["number"], fault["fault"], fault.get("everywhere") is True)
        for fault in listed
        if isinstance(fault, Mapping) and isinstance(fault.get("number"), int) and isinstance(fault.get("fault"), str)
    ]


def option(begin: Run | None, name: str) -> Any:
    """What the plan in a history says under this name; None: nothing."""
    return begin.plan.get(name) if begin and isinstance(begin.plan, Mapping) else None


def doomed_tasks(begin: Run) -> frozenset[str] | None:
    """The tasks of a plan that says which ones no queue can complete."""
    listed = begin.plan.get("doomed") if isinstance(begin.plan, Mapping) else None
    return frozenset(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else None
