"""Whether failed tasks were tried again as the target states: how often, how soon, under which number (I5).

A task that ran again because its worker died, or because the server lost the news of its failure, was recovered and not
retried. Whatever may be that is left out, so that these rules hold under every fault.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ..evidence import Evidence, Execution, Task
from ..excuses import windows_of
from ..explanations import explains
from ..stated import backoff_of, option
from ..verdicts import Fate
from .clocks import in_doubt, shortest

SECOND = 1_000_000_000
VANISHED_MAX = 3
"""A task whose workers died more often may have been given up for that."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A task that raised and was tried again."""

    task: str
    number_min: int
    """Of this task's retries, counted without those failures that the queue may not have heard of."""
    number_max: int
    failed: Execution
    again: Execution


def retries_of(evidence: Evidence) -> Iterator[Retry]:
    """All executions that nothing but the failure of the one before explains."""
    explained = explains(evidence)
    for name, task in evidence.tasks.items():
        if not _is_one(evidence, task) or not any(one.raised for one in task.executions):
            continue
        heard = raised = 0
        for failed, again in pairwise(sorted(task.executions, key=lambda one: one.begin)):
            if not failed.raised:
                continue
            raised += 1
            if again.begin < (failed.end or 0) or explained(name, task, failed, again):
                continue
            heard += 1
            yield Retry(name, heard, raised, failed, again)


def endless_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """The tasks that were tried again after the last failure that the target states."""
    stated = option(evidence.begin, "max_attempts")
    if not isinstance(stated, int):
        return []
    return _names(retry.task for retry in retries if retry.number_min >= stated)


def too_few_of(evidence: Evidence, fates: Mapping[str, Fate]) -> list[str]:
    """The tasks that were given up after fewer failures than the target states.

    A queue may give a task up, too, because its workers died again and again: not where few of them did.
    """
    stated = option(evidence.begin, "max_attempts")
    if not isinstance(stated, int):
        return []
    given_up = [name for name in evidence.tasks if fates[name] in (Fate.DEAD, Fate.FAILED)]
    return [name for name in given_up if _failed_only(evidence.tasks[name], fewer_than=stated)]


def _failed_only(task: Task, *, fewer_than: int) -> bool:
    """Whether it was given up when its body had raised, and nothing but fewer failures can have been the reason."""
    executions = sorted(task.executions, key=lambda one: one.begin)
    raised = sum(one.raised for one in executions)
    if not executions or not executions[-1].raised or raised >= fewer_than:
        return False
    return _claims(task) - raised <= VANISHED_MAX


def _claims(task: Task) -> int:
    """How often it was claimed, as far as is known: not every worker that claimed it has begun it."""
    return max([len(task.executions), *(one.attempt or 0 for one in task.executions)])


def early_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """The tasks that were tried again sooner than the target states."""
    waits = backoff_of(evidence.begin)
    if not waits:
        return []
    return _names(
        retry.task
        for retry in retries
        if retry.again.begin - (retry.failed.end or 0) < shortest(waits[min(retry.number_min, len(waits)) - 1][0])
        and not in_doubt(evidence, retry.failed.end or 0, retry.again.begin)
    )


def same_attempt_of(evidence: Evidence) -> list[str]:
    """The tasks of which two executions had the same `attempt`, or a later worker a lower one."""
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
        for earlier, later in pairwise(sorted(task.executions, key=lambda one: one.begin)):
            if earlier.attempt is None or later.attempt is None or later.attempt > earlier.attempt:
                continue
            # A worker that was there before may have claimed it before, and been held up.
            newcomer = seen_t[later.pid] > earlier.begin and later.pid not in met
            same = later.attempt == earlier.attempt
            # A crash in between may have taken the higher number, as far as the durability allows.
            if (same or newcomer) and not taken(earlier.begin - SECOND, later.begin):
                if not same and explained(name, task, earlier, later):
                    continue
                found.append(name)
                break
    return found


def _is_one(evidence: Evidence, task: Task) -> bool:
    """Whether all its executions are of one task: several submissions may be several to a queue."""
    return task.invoked - task.fail <= 1 or option(evidence.begin, "idempotent") is True


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
