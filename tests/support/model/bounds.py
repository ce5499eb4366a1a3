"""The bounds of the searches: `TESTED` runs with the other tests, `NIGHTLY` in the nightly profile."""

from hypothesis import settings

from support.model.model import Wish
from support.model.world import Bounds

ONE, TWO, THREE = ((Wish("1.10"),) * count for count in (1, 2, 3))
KEYED = (Wish("1.10", "key"), Wish("1.10", "key"), Wish("2", "key"))
MIXED = (Wish("1.10", priority="low"), Wish("1.10"), Wish("1.10", priority="low"))
LATER = (Wish("1.10", later=True), Wish("1.10"))
ONCE = {"max_retries": 0, "max_recoveries": 0}  # the first failure or worker death dead-letters the task

TESTED = {
    "one consumer, two tasks in hand": Bounds(consumers=1, wishes=TWO, faults=2, hand=2, max_retries=0, waits=True),
    "one consumer, three tasks in hand": Bounds(consumers=1, wishes=THREE, faults=1, hand=3, max_retries=0),
    "one consumer, late requests": Bounds(consumers=1, wishes=TWO, faults=2, waits=True, network=True, **ONCE),
    "two consumers, one task": Bounds(consumers=2, wishes=ONE, faults=3),
    "two consumers, two tasks": Bounds(consumers=2, wishes=TWO, faults=1),
    "two consumers, one task, waiting": Bounds(consumers=2, wishes=ONE, faults=1, waits=True, **ONCE),
    "two consumers, late requests": Bounds(consumers=2, wishes=TWO, faults=2, network=True, **ONCE),
    "three consumers, one task": Bounds(consumers=3, wishes=ONE, faults=2, max_retries=0),
    "three consumers, three tasks": Bounds(consumers=3, wishes=THREE, faults=1, **ONCE),
    "one key, three requests": Bounds(consumers=1, wishes=KEYED, faults=3, **ONCE),
    "two priorities": Bounds(consumers=1, wishes=MIXED, faults=1, hand=2, **ONCE),
    "a task for later": Bounds(consumers=1, wishes=LATER, faults=2, waits=True, **ONCE),
    "a lost log, one task": Bounds(consumers=2, wishes=ONE, faults=2, max_retries=0, unwritten=3),
    "a lost log, two tasks": Bounds(consumers=2, wishes=TWO, faults=1, max_retries=0, unwritten=3),
    "a lost log, one key": Bounds(consumers=1, wishes=KEYED, faults=2, unwritten=4, **ONCE),
}

NIGHTLY = {
    "one consumer, three late requests": Bounds(consumers=1, wishes=TWO, faults=3, waits=True, network=True, **ONCE),
    "two consumers, two tasks, waiting": Bounds(consumers=2, wishes=TWO, faults=1, waits=True, **ONCE),
    "two consumers, one task, waiting, two faults": Bounds(consumers=2, wishes=ONE, faults=2, waits=True, **ONCE),
    "two consumers, two tasks, two faults": Bounds(consumers=2, wishes=TWO, faults=2),
    "two consumers, three tasks": Bounds(consumers=2, wishes=THREE, faults=1),
    "three consumers, two tasks, two faults": Bounds(consumers=3, wishes=TWO, faults=2, max_retries=0),
    "three consumers, three tasks, retries": Bounds(consumers=3, wishes=THREE, faults=1, max_recoveries=0),
    "a long lost log, one task": Bounds(consumers=2, wishes=ONE, faults=2, max_retries=0, unwritten=8),
    "a long lost log, two tasks": Bounds(consumers=2, wishes=TWO, faults=1, unwritten=6),
}


def wanted() -> dict[str, Bounds]:
    """Return the bounds that a test run searches under its profile."""
    return {**TESTED, **NIGHTLY} if settings.get_current_profile_name() == "nightly" else TESTED
