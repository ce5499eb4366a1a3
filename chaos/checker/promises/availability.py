"""Whether tasks are accepted while nothing is wrong, and whether workers stop in order, and only for a reason."""

from collections.abc import Iterable
from itertools import pairwise

from ...history import Resources
from ..evidence import Evidence, Execution, FaultRecord, Task
from ..spans import Covered
from ..stated import names, option, seconds

SECOND = 1_000_000_000
MARGIN = SECOND
"""Time after the end of a fault, in ns, in which a client may still meet its effects."""
AT_WORKERS = frozenset({"nothing", "worker", "idle worker", "command", "handler"})
"""Aims of faults that cannot be a reason to refuse a task."""
CONNECTIONS = frozenset({"producer", "network", "client"})
"""Aims of faults after which a client's connections may be broken."""


def refused_of(evidence: Evidence) -> list[str]:
    """Return the tasks that were not accepted though nothing disturbed the server, the producer or the way to them.

    Empty for a load: its profile may send requests that must be refused.
    """
    if option(evidence.begin, "accepts") is not True or option(evidence.begin, "load"):
        return []
    spans = [
        (fault.from_t, (fault.over_t or evidence.last_t) + MARGIN)
        for fault in evidence.faults.values()
        if fault.begin_t is not None and (fault.everywhere or fault.traits.aims_at not in AT_WORKERS)
    ]
    spans += [(one.since_t, one.t + MARGIN) for one in evidence.late]
    # Two more causes explain a missing answer, but not a definite no: a crowded machine delays answers, and a client
    # may find a broken connection whenever it next uses it.
    unsure = [(one.since_t, one.t + MARGIN) for one in evidence.crowded]
    unsure += [
        (fault.from_t, evidence.last_t)
        for fault in evidence.faults.values()
        if fault.begin_t is not None and fault.traits.aims_at in CONNECTIONS
    ]
    disturbed, doubtful = Covered(spans), Covered(spans + unsure)
    abandoned = names(evidence.begin, "abandoned")
    return [
        name
        for name, task in evidence.tasks.items()
        if (task.fail or task.error is not None)
        and not task.promised
        and name not in abandoned
        and _undisturbed(task, disturbed if task.refused else doubtful)
    ]


def interrupted_of(evidence: Evidence) -> list[str]:
    """Return the tasks that a worker failed to finish after it was asked to stop, though its grace period was not over.

    This includes tasks that it lost to another worker, which ran them again while they ran or afterwards.
    """
    grace_s = seconds(evidence.begin, "grace")
    if grace_s is None:
        return []
    excused = left_unfinished(evidence, names(evidence.begin, "ends_its_process"))
    return [
        name
        for fault in evidence.faults.values()
        if fault.traits.asks_to_end and fault.over_t - fault.from_t < grace_s * SECOND
        for name, one in fault.struck.items()
        if (one.end is None or _run_beside(evidence.tasks[name], one, fault) or _run_again(evidence, name, one, fault))
        and one.pid not in excused
        and not hit(evidence, {one.pid}, one.begin, one.end or evidence.last_t, but=fault)
        and not _lost(evidence, one, fault)
    ]


def _run_beside(task: Task, one: Execution, asked: FaultRecord) -> bool:
    """Return whether another execution of the task began while the worker that was asked to stop still ran it."""
    since_t = max(one.begin, asked.from_t)
    return any(since_t < other.begin < (one.end or 0) for other in task.executions)


def _run_again(evidence: Evidence, name: str, one: Execution, asked: FaultRecord) -> bool:
    """Return whether the task ran again although the worker finished it, and only then stopped.

    In that case another worker had taken the task over and was waiting to begin it. Tasks that a client submitted
    twice, or whose completion the server may have lost, do not count.
    """
    task, ended_t = evidence.tasks[name], one.end or 0
    later_t = min((other.begin for other in task.executions if other.begin > ended_t), default=None)
    if not one.completed or ended_t > (asked.effective_t or 0) or later_t is None or task.invoked - task.fail > 1:
        return False
    outages = (fault for fault in evidence.faults.values() if fault.everywhere)
    return not any(fault.during(ended_t, later_t) for fault in outages)


def _lost(evidence: Evidence, one: Execution, asked: FaultRecord) -> bool:
    """Return whether the task may already have been lost as its worker could not renew its lease: no grace applies.

    The worker may begin tasks that it claimed before that time. Outages that were over when it started did not affect
    it.
    """
    started_t = max((evidence.started.get(pid, 0) for pid in asked.pids), default=0)
    within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
    since_t = one.begin - MARGIN - round(within_s * SECOND)
    outages = (
        fault
        for fault in evidence.faults.values()
        if fault is not asked and (one.pid in fault.pids or (fault.everywhere and fault.over_t >= started_t))
    )
    return evidence.starved(since_t, asked.over_t) or any(fault.during(since_t, asked.from_t) for fault in outages)


def ended_of(evidence: Evidence) -> list[str]:
    """Return names of processes that ran tasks and ended by themselves, without a reason in the history."""
    if option(evidence.begin, "workers_stay") is not True:
        return []
    excused = left_unfinished(evidence, names(evidence.begin, "ends_its_process"))
    ran = evidence.first_tasks()
    found = []
    for sid, samples in _sessions(evidence).items():
        members = {pid for one in samples for pid in one.pids}
        ended = next((one for one in evidence.exits if one.sid == sid), None)
        unasked = ended is not None and ended.role == "worker" and not ended.wanted and not members & excused
        if ended and unasked and not hit(evidence, members | {sid}, samples[0].t, ended.t):
            found.append(f"worker {sid} with status {ended.status}")
        # A process that disappears while its session ends belongs to that end.
        lived = [one for one in samples if ended is None or one.t < ended.t - MARGIN]
        for before, after in pairwise(lived):
            gone = (set(before.pids) - set(after.pids)) & ran.keys() - excused
            found += [
                f"process {pid} of worker {sid}"
                for pid in sorted(gone)
                if not hit(evidence, members | {sid}, before.t - MARGIN, after.t)
            ]
    return found


def left_unfinished(evidence: Evidence, tasks: Iterable[str]) -> set[int]:
    """Return the processes with an unfinished execution of one of these tasks."""
    return {
        one.pid
        for name in tasks
        for one in (evidence.tasks[name].executions if name in evidence.tasks else ())
        if one.end is None
    }


def _undisturbed(task: Task, disturbed: Covered) -> bool:
    """Return whether nothing was disturbed from the first request to its answer; False without an answer."""
    asked_t, answered_t = task.invoked_t or 0, task.answered_t or 0
    return any(True for _ in disturbed.gaps((asked_t, answered_t), max(1, answered_t - asked_t)))


def _sessions(evidence: Evidence) -> dict[int, list[Resources]]:
    """Return a worker's session -> its samples, in order of time."""
    found: dict[int, list[Resources]] = {}
    for one in evidence.resources:
        if one.phase == "worker" and one.sid is not None:
            found.setdefault(one.sid, []).append(one)
    return found


def hit(evidence: Evidence, pids: set[int], from_t: int, until_t: int, *, but: FaultRecord | None = None) -> bool:
    """Return whether a fault other than `but` hit one of these processes in that span."""
    return any(
        fault is not but and fault.during(from_t, until_t) and not pids.isdisjoint(fault.pids)
        for fault in evidence.faults.values()
    )
