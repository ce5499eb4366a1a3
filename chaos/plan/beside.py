"""Tasks that come when a fault begins, as it needs them, so that none waits in vain for a task of its kind."""

from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random

from msgspec.structs import replace

from ..faults import Fault
from ..faults.base import long_ms
from ..faults.planned import PlannedTask
from ..target import Target
from .variety import SMALL_BYTES_MAX, Wishes

MORE_MS = 2_500
"""A long body is up to that much longer than it must be."""
GIVEN_UP = ("reject", "raise-always")
"""The first of these that the target can be told to: it is sooner given up."""


def suited(
    draw: Random,
    tasks: Sequence[PlannedTask],
    faults: Iterable[tuple[int, float, Fault]],
    wishes: Wishes,
    target: type[Target],
    recover_within_s: float,
) -> list[PlannedTask]:
    """The tasks; some of those that are due after each fault come with it, and are as it needs them.

    `faults`: the number and the time of each.
    """
    made = list(tasks)
    least_ms = long_ms(recover_within_s)
    first_free = 1 + max(task.batch for task in tasks)
    way = next((one for one in GIVEN_UP if one in target.behaviours), "")
    free = [
        place
        for place, task in enumerate(tasks)
        if task.at_s and task.alone and not task.delay_ms and task.size_bytes <= SMALL_BYTES_MAX
    ]
    for number, at_s, fault in faults:
        coming = (place for place in list(free) if tasks[place].at_s >= at_s)
        long = [] if wishes.work_ms else list(islice(coming, fault.long_beside))
        given_up = list(islice(coming, fault.given_up_beside if way else 0))
        call = list(islice(coming, min(fault.call_beside, target.batch_max)))
        for place in long:
            made[place] = replace(made[place], fault=number, work_ms=least_ms + draw.randrange(MORE_MS))
        for place in given_up:
            made[place] = replace(made[place], fault=number, behaviour=way)
        for place in call:
            made[place] = replace(made[place], fault=number, batch=first_free + number, at_s=tasks[call[0]].at_s)
        free = [place for place in free if place not in {*long, *given_up, *call}]
    return sorted(made, key=lambda task: task.at_s)
