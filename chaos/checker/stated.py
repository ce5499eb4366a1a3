"""What the beginning of a history states: the planned faults, the tasks that must fail, what the target promises."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from ..history import Run, Traits
from .earlier import traits_of


def planned_faults(begin: Run) -> list[tuple[int, str, Traits]]:
    """Return (number, name, traits) of each fault that the plan lists, so that one that never began is noticed."""
    listed = begin.plan.get("faults") if isinstance(begin.plan, Mapping) else None
    if not isinstance(listed, list):
        return []
    return [
        (fault["number"], fault["fault"], _traits(fault))
        for fault in listed
        if isinstance(fault, Mapping) and isinstance(fault.get("number"), int) and isinstance(fault.get("fault"), str)
    ]


def _traits(fault: Mapping[str, Any]) -> Traits:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(fault.get("traits"), Traits)
    return traits_of(fault["fault"], everywhere=fault.get("everywhere") is True)


def seconds(begin: Run | None, name: str) -> float | None:
    """Return the seconds that the plan states under this name; None: not a number."""
    stated = option(begin, name)
    return stated if isinstance(stated, int | float) else None


def option(begin: Run | None, name: str) -> Any:
    """Return the value that the plan states under this name; None: not stated."""
    return begin.plan.get(name) if begin and isinstance(begin.plan, Mapping) else None


def names(begin: Run | None, name: str) -> frozenset[str]:
    """Return the names of tasks that the plan lists under this name; empty without a list."""
    listed = option(begin, name)
    return frozenset(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """Stated limits on the attempts of a task."""

    max_attempts: int | None
    """Number of times that its body may raise; None: not stated."""
    backoff: list[tuple[float, float]]
    """(least, most) seconds before each retry; empty: not stated."""


class StatedRetries:
    """Retry limits that the target states: for most tasks, and for tasks with limits of their own."""

    def __init__(self, begin: Run | None = None) -> None:
        self.of_most = _limits({name: option(begin, name) for name in ("max_attempts", "backoff")})
        listed = option(begin, "retries")
        self._others = {
            name: _limits(group)
            for group in (listed if isinstance(listed, list | tuple) else ())
            if isinstance(group, Mapping) and isinstance(names := group.get("tasks"), list | tuple)
            for name in names
            if isinstance(name, str)
        }

    def of(self, name: str) -> Limits:
        """Return the limits of this task."""
        return self._others.get(name, self.of_most)


def _limits(stated: Mapping[str, Any]) -> Limits:
    attempts = stated.get("max_attempts")
    return Limits(attempts if isinstance(attempts, int) else None, _backoff(stated.get("backoff")))


def _backoff(listed: object) -> list[tuple[float, float]]:
    if not isinstance(listed, list | tuple):
        return []
    return [
        (float(wait[0]), float(wait[1]))
        for wait in listed
        if isinstance(wait, list | tuple) and len(wait) == 2 and all(isinstance(one, int | float) for one in wait)
    ]


def doomed_tasks(begin: Run) -> frozenset[str] | None:
    """Return the tasks that no queue can complete, as the plan lists them; None: it does not."""
    return names(begin, "doomed") if isinstance(option(begin, "doomed"), list) else None
