"""Whether the tasks that an ended worker held came back in order, if the target states that they do.

A worker that is killed leaves what it has claimed, and one that is asked to end gives back what it has not begun. The
history records which process began a task, not which one held it. So only tasks of one call are compared, if no other
process than the ended one had begun any of them, and if all came back from one end with no other death near.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ..evidence import Evidence, Execution, FaultRecord, Task
from ..stated import option

HARMLESS = frozenset({"nothing", "client", "handler"})
"""Aims of faults that take no task from a worker; the ends of processes are checked separately."""
TOGETHER_MAX = 95
"""Largest group that is judged: a queue may return more tasks in hundreds, the newest first, while some are claimed."""
LATER_MIN = 6
"""Number of later tasks that end in a task's process before it begins, if it was passed: more than threads explain."""
PASSED_MIN = 6
"""Number of passed tasks that is a breach: a few may have been claimed, released and claimed again elsewhere."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A task that came back from an ended worker. `place`: its rank in the order of submission."""

    name: str
    place: int
    again: Execution


def passed_of(evidence: Evidence) -> list[str]:
    """Return the tasks that came back behind later ones of their call, from the same ended worker."""
    if option(evidence.begin, "recovers_in_order") is not True:
        return []
    ends = [one.effective_t for one in evidence.faults.values() if one.traits.asks_to_end and one.effective_t]
    found: list[str] = []
    for returned, asked in ((_recovered, False), (partial(_given_back, ends=ends), True)):
        for (call, _), group in _groups(evidence, returned).items():
            passed = list(_passed(group)) if len(group) <= TOGETHER_MAX else []
            until_t = max(one.again.begin for one in group)
            if len(passed) >= PASSED_MIN and _is_of_one_end(evidence, call, until_t, asked=asked):
                found += passed
    return found


def _groups(
    evidence: Evidence, returned: Callable[[Task], Execution | None]
) -> dict[tuple[tuple[int, int], str | None], list[_Return]]:
    """Return (call, priority) -> the tasks that came back. `returned`: the execution as which a task did, if it did."""
    groups: dict[tuple[tuple[int, int], str | None], list[_Return]] = {}
    for place, (name, task) in enumerate(evidence.tasks.items()):
        if task.call is None or task.invoked != 1 or not task.promised or task.delay_ms:
            continue
        if again := returned(task):
            groups.setdefault((task.call, task.priority), []).append(_Return(name, place, again))
    return groups


def _recovered(task: Task) -> Execution | None:
    """Return the execution as attempt 2 of a task with no attempt 1, or one that never ended."""
    for one in sorted(task.executions, key=lambda one: one.begin):
        if one.attempt == 2:
            return one
        if one.attempt != 1 or one.end is not None:
            break
    return None


def _given_back(task: Task, *, ends: Sequence[int]) -> Execution | None:
    """Return the first execution, as attempt 1, of a task that waited at one of these ends of workers."""
    first = min(task.executions, key=lambda one: one.begin, default=None)
    if first is None or first.attempt not in (1, None):
        return None
    return first if any((task.ok_t or 0) <= ended_t < first.begin for ended_t in ends) else None


def _is_of_one_end(evidence: Evidence, call: tuple[int, int], until_t: int, *, asked: bool) -> bool:
    """Return whether all tasks of the call that came back by then were held by one process, which a fault ended.

    `asked`: whether the fault had asked it to end.
    """
    since_t = min(task.invoked_t or 0 for task in evidence.tasks.values() if task.call == call)
    near = [
        one
        for one in evidence.faults.values()
        if one.begin_t is not None and one.traits.aims_at not in HARMLESS and one.during(since_t, until_t)
    ]
    if len(near) != 1 or not near[0].hits_workers or near[0].effective_t is None:
        return False
    if near[0].traits.asks_to_end is not asked:
        return False
    fault, died_t = near[0], near[0].effective_t
    holders = {
        one.pid
        for task in evidence.tasks.values()
        for one in task.executions
        if one.begin <= died_t and (task.call == call or (one.pid in fault.pids and one.begin >= since_t))
    }
    accepted = all((task.ok_t or 0) <= died_t for task in evidence.tasks.values() if task.call == call)
    others = _others_died(evidence, fault, since_t, until_t) or _ran_alone(evidence, died_t, until_t)
    return (
        accepted
        and len(holders) == 1
        and holders <= fault.pids
        and not evidence.starved(since_t, until_t)
        and not evidence.clock_was_set(since_t, until_t)
        and not others
    )


def _others_died(evidence: Evidence, fault: FaultRecord, since_t: int, until_t: int) -> bool:
    """Return whether a worker or process that the fault had not killed may have ended within that time."""
    if any(gone.sid not in fault.pids and since_t <= gone.t <= until_t for gone in evidence.exits):
        return True
    before = {
        pid
        for one in evidence.faults.values()
        if one.effective_t is not None and one.over_t < since_t
        for pid in one.pids
    }
    return any(
        one.end is None
        and one.begin <= until_t
        and one.pid not in fault.pids | before
        and not any(one.begin < later.begin < since_t for later in task.executions)
        for task in evidence.tasks.values()
        for one in task.executions
    )


def _ran_alone(evidence: Evidence, since_t: int, until_t: int) -> bool:
    """Return whether a task that had killed two workers ran within that time.

    A queue may run such a task alone, and release the other tasks that its worker had claimed.
    """
    return any(
        since_t <= one.begin <= until_t and _recoveries(task, one) >= 2
        for task in evidence.tasks.values()
        for one in task.executions
    )


def _recoveries(task: Task, execution: Execution) -> int:
    failed = sum(one.raised for one in task.executions if one.begin < execution.begin)
    return (execution.attempt or 1) - 1 - failed


def _passed(group: Sequence[_Return]) -> Iterator[str]:
    """Yield the tasks that began after enough later ones had begun and ended in the same process."""
    for one in sorted(group, key=lambda one: one.place):
        later = [
            other
            for other in group
            if other.place > one.place
            and other.again.pid == one.again.pid
            and other.again.end is not None
            and other.again.end <= one.again.begin
        ]
        if len(later) >= LATER_MIN:
            yield one.name
