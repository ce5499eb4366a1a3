"""Tasks that are submitted when a fault begins, of the kind it needs, so that no fault waits for a task in vain."""

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from msgspec.structs import replace

from ..faults import Fault
from ..faults.base import Brought, long_ms
from ..faults.planned import OF_THE_OTHERS, PlannedTask
from ..target import Target
from .variety import TASK_MS_MAX, Wishes, hanging_ms

LASTING_MS_MIN, LASTING_MS_MAX = 1_100, 1_800
"""Length, in ms, of a lasting body: long enough for its worker to be well under way before the body ends."""
TOGETHER = 20
"""Number of tasks due at one moment that make a burst, from which no task is taken."""
MORE_MS = 2_500
"""Largest random addition, in ms, to the least length of a long body."""
FAILING, HANGING = "raise-once", "hang-once"
GIVEN_UP = ("reject", "raise-always")
"""Behaviours of a task to be given up. The first one that the target supports is used: `reject` ends sooner."""


def suited(
    draw: Random,
    tasks: Sequence[PlannedTask],
    faults: Iterable[tuple[int, float, Fault]],
    wishes: Wishes,
    target: type[Target],
    recover_within_s: float,
) -> list[PlannedTask]:
    """Return the tasks, some of the small single ones assigned to faults and adapted to them.

    `faults`: number, time and fault of each injection.
    """
    made = list(tasks)
    least_ms, first_type = long_ms(recover_within_s), (*target.types, "")[0]  # why the first: see `_draw_type`
    first_free = 1 + max(task.batch for task in tasks)
    way = next((one for one in GIVEN_UP if one in target.behaviours), "")
    at_once = Counter(task.at_s for task in tasks)
    free = [
        place
        for place, task in enumerate(tasks)
        if task.ordinary and task.work_ms <= TASK_MS_MAX and at_once[task.at_s] < TOGETHER
    ]
    none: set[Brought] = {"long", "lasting", "failing", "hanging"} if wishes.work_ms or not wishes.varied else set()
    if not way:
        none.add("given-up")
    if FAILING not in target.behaviours:
        none.add("failing")
    if HANGING not in target.behaviours or target.time_limit is None:
        none.add("hanging")
    draw.shuffle(free)
    # A call that is small is over before a fault can hit it, so calls are assigned while most tasks are free.
    for number, at_s, fault in sorted(faults, key=lambda each: "call" not in each[2].brings):
        for kind, count in fault.brings.items():
            wanted = 0 if kind in none else min(count, len(free) // OF_THE_OTHERS)
            wanted = min(wanted, target.batch_max) if kind == "call" else wanted
            chosen, free = free[:wanted], free[wanted:]
            for place in chosen:
                task = replace(made[place], fault=number, at_s=at_s)
                if kind in ("lasting", "failing"):
                    task = replace(task, work_ms=draw.randint(LASTING_MS_MIN, LASTING_MS_MAX))
                if kind == "failing":
                    task = replace(task, behaviour=FAILING)
                elif kind == "long":
                    task = replace(task, work_ms=least_ms + draw.randrange(MORE_MS))
                elif kind == "hanging":
                    task = replace(task, behaviour=HANGING, work_ms=hanging_ms(target), type=first_type)
                elif kind == "given-up":
                    task = replace(task, behaviour=way)
                elif kind == "call":
                    task = replace(task, batch=first_free + number)
                made[place] = task
    return sorted(made, key=lambda task: (task.at_s, task.fault))
