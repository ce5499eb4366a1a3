"""Whether failed tasks were tried again as the target states: how often, how soon, under which number (I5).

A task that ran again because its worker died, or because the server lost the report of its failure, was recovered and
not retried. Executions that may be recoveries are left out, so that these rules hold under every fault.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..evidence import Evidence, Execution, FaultRecord, Task
from ..excuses import windows_of
from ..explanations import explains
from ..stated import option
from ..verdicts import Fate
from .clocks import in_doubt, shortest

SECOND = 1_000_000_000
VANISHED_MAX = 3
"""Number of deaths of a task's workers beyond which the queue may have given the task up for that."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A task that raised and was tried again."""

    task: str
    number_min: int
    """Number of this retry, without those failures that may not have reached the queue."""
    number_max: int
    failed: Execution
    again: Execution


def retries_of(evidence: Evidence) -> Iterator[Retry]:
    """Yield the retries: executions that only the failure of the previous one explains."""
    explained, requeued = explains(evidence), requeues_of(evidence)
    for name, task in evidence.tasks.items():
        if not _is_one(evidence, task) or not any(one.raised for one in task.executions):
            continue
        heard = raised = 0
        for failed, again in pairwise(sorted(task.executions, key=lambda one: one.begin)):
            if any(failed.begin <= one.over_t and again.begin >= one.from_t for one in requeued.get(name, ())):
                heard = raised = 0
                continue
            if not failed.raised:
                continue
            raised += 1
            if again.begin < (failed.end or 0) or explained(name, task, failed, again):
                continue
            heard += 1
            yield Retry(name, heard, raised, failed, again)


def due_of(evidence: Evidence, retry: Retry) -> int | None:
    """Return the time at which the longest stated wait before the retry ends; None: no backoff is stated."""
    waits = evidence.retries.of(retry.task).backoff
    if not waits:
        return None
    return (retry.failed.end or 0) + round(waits[min(retry.number_max, len(waits)) - 1][1] * SECOND)


def endless_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """Return the tasks that ran again after the last failure that the target states, or ran though none may."""
    begun = [(name, 0) for name, task in evidence.tasks.items() if task.executions]
    seen = [*begun, *((retry.task, retry.number_min) for retry in retries)]
    # At its first attempt a task has failed 0 times, which is below any limit but 0.
    return _names(
        name for name, failed in seen if (most := evidence.retries.of(name).max_attempts) is not None and failed >= most
    )


def too_few_of(evidence: Evidence, fates: Mapping[str, Fate]) -> list[str]:
    """Return the tasks that were given up after fewer failures than the target states.

    A queue may also give a task up because its workers died repeatedly: only tasks with few such deaths are judged.
    """
    stated, requeued = evidence.retries, requeues_of(evidence)
    given_up = [name for name in evidence.tasks if fates[name] in (Fate.DEAD, Fate.FAILED)]
    return [
        name
        for name in given_up
        if _failed_only(evidence.tasks[name], requeued.get(name, ()), fewer_than=stated.of(name).max_attempts or 0)
    ]


def _failed_only(task: Task, requeued: Sequence[FaultRecord], *, fewer_than: int) -> bool:
    """Return whether the task was given up after fewer than `fewer_than` failures, for no other possible reason."""
    since_t = requeued[-1].from_t if requeued else 0
    before = [one for one in task.executions if one.begin < since_t]
    executions = sorted((one for one in task.executions if one.begin >= since_t), key=lambda one: one.begin)
    raised = sum(one.raised for one in executions)
    if not executions or not executions[-1].raised or raised >= fewer_than:
        return False
    # Known number of claims: not every worker that claimed the task began it.
    claims = max(len(executions), _attempt(executions) - _attempt(before))
    return claims - raised <= VANISHED_MAX


def _attempt(executions: Iterable[Execution]) -> int:
    """Return the highest attempt; 0: unknown."""
    return max((one.attempt or 0 for one in executions), default=0)


def worn_out_of(evidence: Evidence) -> set[str]:
    """Return the tasks that may have been given up because their workers died more often than the target states.

    Every claim by a worker that died counts, begun or not. Their number is the highest attempt, less the executions
    that raised. Each worker death since the last begin may be one more.
    """
    most = option(evidence.begin, "max_recoveries")
    if not isinstance(most, int):
        return set()
    # Deaths by faults, and workers that ended by themselves.
    struck_t = [fault.effective_t for fault in evidence.faults.values() if fault.hits_workers and fault.effective_t]
    ended_t = [gone.t for gone in evidence.exits if gone.role == "worker" and not gone.wanted]
    deaths_t = sorted([*struck_t, *ended_t])

    def worn_out(task: Task) -> bool:
        if not task.executions:
            return False
        since_t = max(one.begin for one in task.executions)
        raised = sum(one.raised for one in task.executions)
        return _attempt(task.executions) - raised + len(deaths_t) - bisect_right(deaths_t, since_t) > most

    return {name for name, task in evidence.tasks.items() if worn_out(task)}


def requeues_of(evidence: Evidence) -> dict[str, list[FaultRecord]]:
    """Return task -> the faults that requeued it, in order of time: its attempts are counted from the last one."""
    found: dict[str, list[FaultRecord]] = {}
    for fault in sorted(evidence.faults.values(), key=lambda fault: fault.from_t):
        if fault.traits.requeues and fault.effective_t is not None:
            for name in fault.claimed & evidence.tasks.keys():
                found.setdefault(name, []).append(fault)
    return found


def not_again_of(evidence: Evidence, fates: Mapping[str, Fate]) -> list[str]:
    """Return the requeued tasks that are among the dead letters without having run again.

    A requeued task that is gone is LOST, and one that waits is STUCK.
    """
    taken = windows_of(evidence, promises=False)
    return [
        name
        for name, requeued in requeues_of(evidence).items()
        if fates[name] in (Fate.DEAD, Fate.FAILED)
        and not any(one.begin >= requeued[-1].from_t for one in evidence.tasks[name].executions)
        and not taken(requeued[-1].from_t - SECOND, evidence.last_t)
    ]


def early_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """Return the tasks that were tried again sooner than the target states."""
    return _names(
        retry.task
        for retry in retries
        if (waits := evidence.retries.of(retry.task).backoff)
        and retry.again.begin - (retry.failed.end or 0) < shortest(waits[min(retry.number_min, len(waits)) - 1][0])
        and not in_doubt(evidence, retry.failed.end or 0, retry.again.begin)
    )


def same_attempt_of(evidence: Evidence) -> list[str]:
    """Return the tasks with the same `attempt` in two executions, or with a lower one in a later worker."""
    if option(evidence.begin, "attempts_grow") is not True:
        return []
    explained = explains(evidence)
    seen_t = evidence.first_tasks()
    met = {pid for fault in evidence.faults.values() for pid in fault.pids}
    taken = windows_of(evidence, promises=False)
    found = []
    for name, task in evidence.tasks.items():
        if not _is_one(evidence, task) or len(task.executions) < 2:
            continue
        newest: dict[int, Execution] = {}
        for before, later in pairwise(sorted(task.executions, key=lambda one: one.begin)):
            if before.attempt is None or later.attempt is None:
                continue
            newest[before.attempt] = before
            earlier = newest.get(later.attempt, before)
            if later.attempt > (earlier.attempt or 0):
                continue
            # A worker that existed earlier may have claimed the task earlier, and been delayed.
            newcomer = seen_t[later.pid] > earlier.begin and later.pid not in met
            same = later.attempt == earlier.attempt
            # A crash in between may have lost the higher number, if the durability allows that.
            if (same or newcomer) and not taken(earlier.begin - SECOND, later.begin):
                if not same and explained(name, task, earlier, later):
                    continue
                found.append(name)
                break
    return found


def _is_one(evidence: Evidence, task: Task) -> bool:
    """Return whether all executions are of one task: several submissions may be several tasks to a queue."""
    return task.invoked - task.fail <= 1 or option(evidence.begin, "idempotent") is True


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
