"""What faults need of the tasks that come when they begin, so that none waits in vain for a task of its kind."""

from collections.abc import Iterable, Sequence
from random import Random

from msgspec.structs import replace

from ..faults import Fault
from ..faults.base import long_ms
from ..faults.planned import PlannedTask
from ..target import Target
from .variety import LONG_MS_MAX, SMALL_BYTES_MAX, Wishes

GIVEN_UP = ("reject", "raise-always")
"""The first of these that the target can be told to: it is sooner given up."""


def suited(
    draw: Random,
    tasks: Sequence[PlannedTask],
    faults: Iterable[tuple[float, Fault]],
    wishes: Wishes,
    target: type[Target],
    recover_within_s: float,
) -> list[PlannedTask]:
    """The tasks, and of those that come next after each fault some as it needs them. `faults`: each with its time."""
    made = list(tasks)
    least_ms = long_ms(recover_within_s)
    way = next((one for one in GIVEN_UP if one in target.behaviours), "")
    free = [
        place
        for place, task in enumerate(tasks)
        if task.at_s and task.alone and not task.delay_ms and task.size_bytes <= SMALL_BYTES_MAX
    ]
    for at_s, fault in faults:
        coming = (place for place in list(free) if tasks[place].at_s >= at_s)
        long = [] if wishes.work_ms else _next(coming, fault.long_beside)
        given_up = _next(coming, fault.given_up_beside if way else 0)
        for place in long:
            made[place] = replace(made[place], work_ms=draw.randint(least_ms, max(least_ms, LONG_MS_MAX)))
        for place in given_up:
            made[place] = replace(made[place], behaviour=way)
        free = [place for place in free if place not in {*long, *given_up}]
    return made


def _next(places: Iterable[int], count: int) -> list[int]:
    return [place for place, _ in zip(places, range(count))]
