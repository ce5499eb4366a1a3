"""Whether a target with a time limit waits for a body that hangs, or interrupts others for it: it must do neither."""

from ..evidence import Evidence, Execution
from ..stated import names, seconds
from .availability import hit, left_unfinished

SECOND = 1_000_000_000
MARGIN_S = 5.0
"""Tolerance in seconds: a queue checks its limits now and then, and a busy machine adds to that."""


def waited_for_of(evidence: Evidence) -> list[str]:
    """Return the tasks whose hanging body ended long after the limit, and that did not run again.

    A thread can't be stopped, so a body may run to its end although its task has failed. Then the task runs again.
    """
    limit_s = seconds(evidence.begin, "time_limit")
    if limit_s is None:
        return []
    over = round((limit_s + MARGIN_S) * SECOND)
    return [
        name
        for name in sorted(names(evidence.begin, "hanging") & evidence.tasks.keys())
        if len(executions := evidence.tasks[name].executions) == 1 and _lasted(evidence, executions[0]) > over
    ]


def interrupted_beside_of(evidence: Evidence) -> list[str]:
    """Return the tasks that were interrupted as their process ended at the time limit of another one.

    A thread can't be stopped, so a process ends because of a body that hangs. Its other tasks have the grace. How
    long one needs is known from its other executions; one that never ended may have needed more than the grace.
    """
    limit_s, grace_s = (seconds(evidence.begin, name) for name in ("time_limit", "grace"))
    if limit_s is None or grace_s is None:
        return []
    grace = round(grace_s * SECOND)
    hanging, ending = (names(evidence.begin, name) for name in ("hanging", "ends_its_process"))
    excused = left_unfinished(evidence, ending - hanging)
    hung = [
        (one.pid, one.begin + round(limit_s * SECOND))
        for name in hanging & evidence.tasks.keys()
        for one in evidence.tasks[name].executions
        if one.end is None and one.pid not in excused
    ]
    return [
        name
        for name, task in evidence.tasks.items()
        if name not in ending
        and (needs := max((one.end - one.begin for one in task.executions if one.end), default=0))
        and any(
            one.pid == pid and one.end is None and one.begin < limit_t and one.begin + needs < limit_t + grace - SECOND
            for one in task.executions
            for pid, limit_t in hung
            if not hit(evidence, {pid}, one.begin, limit_t + grace)
        )
    ]


def _lasted(evidence: Evidence, one: Execution) -> int:
    """Return how long it ran, in ns; 0: it did not end, or the machine was starved meanwhile."""
    end_t = one.end or 0
    return 0 if evidence.starved(one.begin, end_t) else end_t - one.begin
