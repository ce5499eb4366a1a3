"""How far the searches go: `TESTED` with the other tests, `NIGHTLY` where there is time."""

from hypothesis import settings

from support.model.world import Bounds

ONE, TWO, THREE = ((("1.10", None),) * count for count in (1, 2, 3))
KEYED = (("1.10", "key"), ("1.10", "key"), ("2", "key"))
ONCE = {"max_retries": 0, "max_recoveries": 0}  # the first failure, and the first death, is the last

TESTED = {
    "one consumer, two tasks in hand": Bounds(consumers=1, wishes=TWO, faults=2, hand=2, max_retries=0),
    "one consumer, three tasks in hand": Bounds(consumers=1, wishes=THREE, faults=1, hand=3, max_retries=0),
    "two consumers, one task": Bounds(consumers=2, wishes=ONE, faults=3, max_retries=0),
    "two consumers, two tasks": Bounds(consumers=2, wishes=TWO, faults=1),
    "two consumers, three tasks": Bounds(consumers=2, wishes=THREE, faults=1, **ONCE),
    "three consumers, one task": Bounds(consumers=3, wishes=ONE, faults=2, max_retries=0),
    "three consumers, two tasks": Bounds(consumers=3, wishes=TWO, faults=1, max_retries=0),
    "three consumers, three tasks": Bounds(consumers=3, wishes=THREE, faults=1, **ONCE),
    "one key, three requests": Bounds(consumers=1, wishes=KEYED, faults=3, **ONCE),
    "a lost log, one task": Bounds(consumers=2, wishes=ONE, faults=2, max_retries=0, unwritten=3),
    "a lost log, two tasks": Bounds(consumers=2, wishes=TWO, faults=1, max_retries=0, unwritten=3),
    "a lost log, one key": Bounds(consumers=1, wishes=KEYED, faults=2, unwritten=4, **ONCE),
}

NIGHTLY = {
    "two consumers, two tasks, two faults": Bounds(consumers=2, wishes=TWO, faults=2, max_retries=0),
    "three consumers, two tasks, two faults": Bounds(consumers=3, wishes=TWO, faults=2, **ONCE),
    "three consumers, three tasks, retries": Bounds(consumers=3, wishes=THREE, faults=1, max_recoveries=0),
    "a long lost log, one task": Bounds(consumers=2, wishes=ONE, faults=2, max_retries=0, unwritten=8),
    "a long lost log, two tasks": Bounds(consumers=2, wishes=TWO, faults=1, unwritten=6),
}


def wanted() -> dict[str, Bounds]:
    """What a run of the tests searches, by its profile."""
    return {**TESTED, **NIGHTLY} if settings.get_current_profile_name() == "nightly" else TESTED
