"""Whether scheduled tasks wait for their time, and urgent ones come first.

What is due and not begun though a worker is idle is judged with the other late ones, in `lateness.py`.
"""

from collections.abc import Iterator

from ..evidence import Evidence, Execution, FaultRecord, Task
from ..stated import option
from .clocks import in_doubt, shortest

KILL = frozenset({"nothing", "worker", "idle worker", "client", "handler"})
"""What faults aim at that put off only what a worker held that died, or that stood still."""
EACH_MIN = 20
"""That many tasks of two priorities must be accepted by one call for these to be compared."""
FIRST_MIN = 0.75
"""Of all pairs of tasks of two priorities, that many must begin in that order; half of them do by chance."""


def early_starts_of(evidence: Evidence) -> list[str]:
    """The scheduled tasks that began before they were due."""
    if option(evidence.begin, "delays") is not True:
        return []
    return [
        name
        for name, task in evidence.tasks.items()
        if task.delay_ms
        and any(one.begin < _soonest(task) for one in task.executions)
        and not in_doubt(evidence, task.invoked_t or 0, _soonest(task))
    ]


def slighted_of(evidence: Evidence) -> list[str]:
    """A clause for each batch of which those of the first priority did not come first."""
    stated = option(evidence.begin, "priorities")
    if not isinstance(stated, list | tuple) or len(stated) < 2:
        return []
    first, *others = stated
    clauses = []
    for tasks in _batches(evidence):
        begins: dict[str | None, list[int]] = {priority: [] for priority in stated}
        for task in tasks:
            if (one := _unhindered(evidence, task)) is not None and task.priority in begins:
                begins[task.priority].append(one.begin)
        for other in others:
            if min(len(begins[first]), len(begins[other])) < EACH_MIN:
                continue
            share = _share_in_order(begins[first], begins[other])
            if share < FIRST_MIN:
                clauses.append(
                    f"only {share:.0%} of {len(begins[first])} tasks of priority {first} began before the "
                    f"{len(begins[other])} of priority {other} that were accepted with them"
                )
    return clauses


def _unhindered(evidence: Evidence, task: Task) -> Execution | None:
    """Its first execution, if no fault can have put it off since it was accepted; None: one can.

    What a worker has claimed ahead and gives back, or takes with it when it dies, begins later than what others had
    claimed at the same moment. What the queue numbers as attempt 1 was never held by a process that died.
    """
    first = min(task.executions, key=lambda one: one.begin)
    if first.attempt != 1 and not evidence.undisturbed:
        return None
    since = [one for one in evidence.faults.values() if one.begin_t and one.during(task.ok_t or 0, first.begin)]
    return None if any(_gives_back(one) or first.pid in one.pids for one in since) else first


def _gives_back(fault: FaultRecord) -> bool:
    """Whether workers that live on may give back what they have claimed, because of this fault."""
    return fault.everywhere or fault.traits.asks_to_end or fault.traits.aims_at not in KILL


def _soonest(task: Task) -> int:
    return (task.invoked_t or 0) + round(shortest(task.delay_ms / 1000))


def _batches(evidence: Evidence) -> Iterator[list[Task]]:
    """The tasks that were accepted by one call and could begin at once, for each call."""
    batches: dict[tuple[int, int], list[Task]] = {}
    for task in evidence.tasks.values():
        if task.call and task.promised and task.executions and not task.delay_ms:
            batches.setdefault(task.call, []).append(task)
    yield from batches.values()


def _share_in_order(first: list[int], second: list[int]) -> float:
    """Of all pairs of one of the first and one of the second, the share in which that of the first is smaller."""
    ranked = sorted([(t, True) for t in first] + [(t, False) for t in second])
    before = pairs = 0
    for _, is_first in ranked:
        if is_first:
            before += 1
        else:
            pairs += before
    return pairs / (len(first) * len(second))
