"""Whether scheduled tasks wait for their time, and urgent ones come first.

Tasks that are due and do not begin while a worker is idle are judged in `lateness.py`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from ..evidence import Evidence, Execution, FaultRecord, Task
from ..spans import Span
from ..stated import option
from .clocks import in_doubt, shortest
from .lateness import allowed

SECOND = 1_000_000_000
KILL = frozenset({"nothing", "worker", "idle worker", "client", "handler"})
"""Aims of faults that delay only tasks held by a worker that died or stood still."""
EACH_MIN = 20
"""Number of tasks of each of two priorities that one call must submit for these to be compared."""
WAITING_MIN = 20
"""Number of waiting tasks of a priority from which on they are many."""
FIRST_MIN = 0.75
"""Share of all pairs of tasks of two priorities that must begin in that order; half of them do by chance."""


def early_starts_of(evidence: Evidence) -> list[str]:
    """Return the scheduled tasks that began before they were due."""
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
    """Return a clause for each batch whose tasks of the first priority did not begin first."""
    stated = option(evidence.begin, "priorities")
    if not isinstance(stated, list | tuple) or len(stated) < 2:
        return []
    first, *others = stated
    clauses = []
    for tasks in (*_batches(evidence), *_scheduled(evidence)):
        begins = _begins_by_process(evidence, tasks)
        for other in others:
            pairs = [(of_one[first], of_one[other]) for of_one in begins if first in of_one and other in of_one]
            urgent, later = (sum(map(len, times)) for times in zip(*pairs, strict=True)) if pairs else (0, 0)
            if min(urgent, later) < EACH_MIN:
                continue
            share = _share_in_order(pairs)
            if share < FIRST_MIN:
                clauses.append(
                    f"only {share:.0%} of {urgent} tasks of priority {first} began before the "
                    f"{later} of priority {other} that were accepted with them and ran in the same process"
                )
    return clauses


def begun_while_paused(evidence: Evidence) -> list[str]:
    """Return the tasks that began while claiming was paused."""
    if option(evidence.begin, "pauses_within") is None:
        return []
    pauses = [span for span in _pauses(evidence) if not evidence.starved(*span)]
    return [
        name
        for name, task in evidence.tasks.items()
        if any(from_t <= one.begin <= until_t for one in task.executions for from_t, until_t in pauses)
    ]


def _begins_by_process(evidence: Evidence, tasks: Iterable[Task]) -> Iterable[dict[str | None, list[int]]]:
    """Return for each process that began tasks of a batch: priority -> the times.

    Tasks are compared within a process only. A slow process still holds urgent tasks that it claimed first while a
    faster one runs what is left. Processes that run a single task claim nothing ahead, and count as one.
    """
    begun = [(task.priority, one) for task in tasks if (one := _unhindered(evidence, task)) is not None]
    each = Counter(one.pid for _, one in begun)
    found: dict[int, dict[str | None, list[int]]] = {}
    for priority, one in begun:
        found.setdefault(one.pid if each[one.pid] > 1 else 0, {}).setdefault(priority, []).append(one.begin)
    return found.values()


def starved_of(evidence: Evidence) -> list[str]:
    """Return a clause for each priority that was starved: many of its tasks waited while only others began."""
    stated, most = option(evidence.begin, "priorities"), option(evidence.begin, "lower_within")
    if not isinstance(stated, list | tuple) or not isinstance(most, int):
        return []
    begins = sorted((one.begin, task.priority) for task in evidence.tasks.values() for one in task.executions)
    longest = {priority: _in_a_row(evidence, begins, priority) for priority in stated}
    return [
        f"{in_a_row:,} tasks of other priorities began one after the other while at least {WAITING_MIN} of priority "
        f"{priority} waited"
        for priority, in_a_row in longest.items()
        if in_a_row > most
    ]


def _in_a_row(evidence: Evidence, begins: Iterable[tuple[int, str | None]], priority: str) -> int:
    """Return the longest series of begins of other priorities between two of this one, while many of this one waited.

    A task counts as waiting from a second after it was accepted: until then a worker may be busy with earlier claims.
    A scheduled one counts once a recovery could have taken place since it was due: of several tasks that are due, a
    worker that dies may have made only the first ones pending. A task whose first execution is not attempt 1 was held
    by a worker that died, and does not count.
    """
    changes = []
    for task in evidence.tasks.values():
        first = min(task.executions, key=lambda one: one.begin, default=None)
        if task.priority != priority or task.ok_t is None or first is None or first.attempt not in (1, None):
            continue
        since_t = task.ok_t + (task.delay_ms * 1_000_000 + allowed(evidence) if task.delay_ms else SECOND)
        if first.begin > since_t:
            changes += [(since_t, 1), (first.begin, -1)]
    changes.sort()
    waiting = place = in_a_row = longest = 0
    for t, whose in begins:
        while place < len(changes) and changes[place][0] < t:
            waiting += changes[place][1]
            place += 1
        if waiting < WAITING_MIN or whose == priority:
            in_a_row = 0
        else:
            in_a_row += 1
            longest = max(longest, in_a_row)
    return longest


def _unhindered(evidence: Evidence, task: Task) -> Execution | None:
    """Return the first execution, if no fault can have delayed it since the task was accepted, and due; else None.

    A prefetched task that a worker releases, or loses when it dies, begins later than tasks that others claimed at the
    same time. A task at attempt 1 was never held by a process that died.
    """
    first = min(task.executions, key=lambda one: one.begin)
    if first.attempt != 1 and not evidence.undisturbed:
        return None
    since = [one for one in evidence.faults.values() if one.begin_t and one.during(_due(task), first.begin)]
    return None if any(_gives_back(one) or first.pid in one.pids for one in since) else first


def _gives_back(fault: FaultRecord) -> bool:
    """Return whether this fault may make live workers release tasks that they have claimed."""
    return fault.everywhere or fault.traits.asks_to_end or fault.traits.aims_at not in KILL


def _due(task: Task) -> int:
    """Return when the task could begin: once it was accepted, or later if it is scheduled."""
    return (task.ok_t or 0) + task.delay_ms * 1_000_000


def _soonest(task: Task) -> int:
    return (task.invoked_t or 0) + round(shortest(task.delay_ms / 1000))


def _batches(evidence: Evidence) -> Iterator[list[Task]]:
    """Yield, for each call, the tasks that were accepted by it and could begin at once."""
    batches: dict[tuple[int, int], list[Task]] = {}
    for task in evidence.tasks.values():
        if task.call and task.promised and task.executions and not task.delay_ms:
            batches.setdefault(task.call, []).append(task)
    yield from batches.values()


def _pauses(evidence: Evidence) -> list[Span]:
    return [one.lasted for one in evidence.faults.values() if one.traits.pauses and one.lasted]


def _scheduled(evidence: Evidence) -> Iterator[list[Task]]:
    """Yield, for each call, its scheduled tasks that became due while claiming was paused: none could begin before."""
    for from_t, until_t in _pauses(evidence):
        calls: dict[tuple[int, int], list[Task]] = {}
        for task in evidence.tasks.values():
            if task.call and task.delay_ms and task.executions and from_t <= _due(task) <= until_t:
                calls.setdefault(task.call, []).append(task)
        yield from calls.values()


def _share_in_order(pairs: Iterable[tuple[list[int], list[int]]]) -> float:
    """Return the share of pairs of times, one of each list of a process, in which the first list's is smaller."""
    in_order = possible = 0
    for first, second in pairs:
        begun = sorted(first)
        in_order += sum(bisect_left(begun, t) for t in second)
        possible += len(first) * len(second)
    return in_order / possible
