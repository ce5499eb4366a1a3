"""Tasks that come when a fault begins, as it needs them, so that none waits in vain for a task of its kind."""

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from msgspec.structs import replace

from ..faults import Fault
from ..faults.base import Brought, long_ms
from ..faults.planned import PlannedTask
from ..target import Target
from .variety import SMALL_BYTES_MAX, TASK_MS_MAX, Wishes

LASTING_MS_MIN, LASTING_MS_MAX = 1_100, 1_800
"""Long enough for a worker to be well under way before it ends."""
OF_THE_OTHERS = 3
"""Of that many tasks that could come with a fault one does: the others must go on."""
TOGETHER = 20
"""As many tasks that are due at one moment are a burst, which is left as it is."""
MORE_MS = 2_500
"""A long body is up to that much longer than it must be."""
FAILING = "raise-once"
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
    """The tasks; some that are small and alone come with a fault, and are as it needs them.

    `faults`: the number and the time of each.
    """
    made = list(tasks)
    least_ms = long_ms(recover_within_s)
    first_free = 1 + max(task.batch for task in tasks)
    way = next((one for one in GIVEN_UP if one in target.behaviours), "")
    at_once = Counter(task.at_s for task in tasks)
    free = [place for place, task in enumerate(tasks) if _is_free(task) and at_once[task.at_s] < TOGETHER]
    none: set[Brought] = {"long", "lasting", "failing"} if wishes.work_ms or not wishes.varied else set()
    if not way:
        none.add("given-up")
    if FAILING not in target.behaviours:
        none.add("failing")
    draw.shuffle(free)
    for number, at_s, fault in faults:
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
                elif kind == "given-up":
                    task = replace(task, behaviour=way)
                elif kind == "call":
                    task = replace(task, batch=first_free + number)
                made[place] = task
    return sorted(made, key=lambda task: (task.at_s, task.fault))


def _is_free(task: PlannedTask) -> bool:
    """Whether it is one of the trickle that is nothing special."""
    ordinary = task.size_bytes <= SMALL_BYTES_MAX and task.work_ms <= TASK_MS_MAX and not task.delay_ms
    return bool(task.at_s) and task.alone and ordinary
