"""How far the searches go."""

from world import Bounds

ONE, TWO, THREE = ((("1.10", None),) * count for count in (1, 2, 3))
KEYED = (("1.10", "key"), ("1.10", "key"), ("2", "key"))

TESTED = {
    "one consumer, two tasks": Bounds(consumers=1, wishes=TWO, faults=2, hand=2),
    "two consumers, one task": Bounds(consumers=2, wishes=ONE, faults=3),
    "two consumers, two tasks": Bounds(consumers=2, wishes=TWO, faults=1),
    "two consumers, three tasks": Bounds(consumers=2, wishes=THREE, faults=1, max_retries=0, max_recoveries=0),
    "three consumers, one task": Bounds(consumers=3, wishes=ONE, faults=2, max_retries=0),
    "three consumers, two tasks": Bounds(consumers=3, wishes=TWO, faults=1, max_retries=0, max_recoveries=0),
    "keys": Bounds(consumers=1, wishes=KEYED, faults=3, max_retries=0, max_recoveries=0),
    "log, one task": Bounds(consumers=2, wishes=ONE, faults=2, max_retries=0, unwritten=3),
    "log, two tasks": Bounds(consumers=2, wishes=TWO, faults=1, max_retries=0, unwritten=3),
}

NIGHTLY: dict[str, Bounds] = {}
