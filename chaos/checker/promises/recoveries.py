"""Whether the tasks that a dead worker held came back in their order, where the target states it.

Who held what is not on record: only what began is. So only the tasks of one call are compared that nobody but the
process that died had begun any of, and that each came back from one death, with no other one near.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..evidence import Evidence, Execution, FaultRecord, Task
from ..stated import option

HARMLESS = frozenset({"nothing", "client", "handler"})
"""What faults aim at that take nothing from a worker; the end of a process is looked for by itself."""
TOGETHER_MAX = 95
"""Of more tasks than that a queue may give back the newest first, a hundred at a time: some are claimed in between."""
LATER_MIN = 6
"""A task was passed if that many later ones were over in its process before it began: more than its threads explain."""
PASSED_MIN = 6
"""That many tasks must have been passed: a few may have been claimed, given back and claimed again elsewhere."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A task that came back from a death. `place`: among those of its call."""

    name: str
    place: int
    again: Execution


def passed_of(evidence: Evidence) -> list[str]:
    """The tasks that came back behind later ones of their call, from the same dead worker."""
    if option(evidence.begin, "recovers_in_order") is not True:
        return []
    found: list[str] = []
    for (call, _), group in _returns(evidence).items():
        passed = list(_passed(group)) if len(group) <= TOGETHER_MAX else []
        if len(passed) >= PASSED_MIN and _is_of_one_death(evidence, call, max(one.again.begin for one in group)):
            found += passed
    return found


def _returns(evidence: Evidence) -> dict[tuple[tuple[int, int], str | None], list[_Return]]:
    """Call and priority -> the tasks that ran as attempt 2, and to no end before: by a process that died with them."""
    groups: dict[tuple[tuple[int, int], str | None], list[_Return]] = {}
    for place, (name, task) in enumerate(evidence.tasks.items()):
        if task.call is None or task.invoked != 1 or not task.promised or task.delay_ms:
            continue
        for one in sorted(task.executions, key=lambda one: one.begin):
            if one.attempt == 2:
                groups.setdefault((task.call, task.priority), []).append(_Return(name, place, one))
            if one.attempt != 1 or one.end is not None:
                break
    return groups


def _is_of_one_death(evidence: Evidence, call: tuple[int, int], until_t: int) -> bool:
    """Whether all that had come back of the call by then was in the hands of one process, which a fault killed."""
    since_t = min(task.invoked_t or 0 for task in evidence.tasks.values() if task.call == call)
    near = [
        one
        for one in evidence.faults.values()
        if one.begin_t is not None and one.traits.aims_at not in HARMLESS and one.during(since_t, until_t)
    ]
    if len(near) != 1 or not near[0].hits_workers or near[0].traits.asks_to_end or near[0].effective_t is None:
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
        and not others
    )


def _others_died(evidence: Evidence, fault: FaultRecord, since_t: int, until_t: int) -> bool:
    """Whether a worker or its process may have ended within that time that the fault had not killed."""
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
    """Whether a task was run within that time that had killed two workers: a queue may run it with nothing beside it,
    and hand back what its worker had claimed.
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
    """The tasks that began when enough later ones were over that the same process had begun."""
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
