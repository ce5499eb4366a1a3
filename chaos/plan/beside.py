"""Tasks that come when a fault begins, as it needs them, so that none waits in vain for a task of its kind."""

from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random

from msgspec.structs import replace

from ..faults import Fault
from ..faults.base import Brought, long_ms
from ..faults.planned import PlannedTask
from ..target import Target
from .variety import SMALL_BYTES_MAX, Wishes

LASTING_MS_MIN, LASTING_MS_MAX = 1_100, 1_800
"""Long enough for a worker to be well under way before it ends."""
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
    most: dict[Brought, int] = {"given-up": len(tasks) if way else 0, "call": target.batch_max}
    if wishes.work_ms:
        most["long"] = most["lasting"] = 0
    for number, at_s, fault in faults:
        coming = iter([place for place in free if tasks[place].at_s >= at_s])
        taken: set[int] = set()
        for kind, count in fault.brings.items():
            chosen = list(islice(coming, min(count, most.get(kind, count))))
            taken.update(chosen)
            for place in chosen:
                made[place] = replace(made[place], fault=number)
                if kind == "lasting":
                    made[place] = replace(made[place], work_ms=draw.randint(LASTING_MS_MIN, LASTING_MS_MAX))
                elif kind == "long":
                    made[place] = replace(made[place], work_ms=least_ms + draw.randrange(MORE_MS))
                elif kind == "given-up":
                    made[place] = replace(made[place], behaviour=way)
                elif kind == "call":
                    made[place] = replace(made[place], batch=first_free + number, at_s=tasks[chosen[0]].at_s)
        free = [place for place in free if place not in taken]
    return sorted(made, key=lambda task: task.at_s)
