"""Rules while the server's memory is full: the queue must not promise more tasks or leave promised tasks waiting.

Full memory does not excuse a late start, retry or recovery either: see `lateness`. But on a crowded machine nothing
counts as late. There a queue has stopped only if nothing happens in it at all.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from ..evidence import Evidence
from ..spans import Span
from ..stated import option
from .lateness import allowed, idle_in
from .retries import Retry, due_of


def accepted_of(evidence: Evidence) -> list[str]:
    """Return the tasks that were submitted and accepted while the server's memory was full."""
    if option(evidence.begin, "drains_when_full") is not True:
        return []
    full = _full(evidence)
    return [
        name
        for name, task in evidence.tasks.items()
        if task.invoked_t is not None
        and task.ok_t is not None
        and any(from_t <= task.invoked_t and task.ok_t <= until_t for from_t, until_t in full)
    ]


def left_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """Return the tasks that waited for a recovery's time: memory full, a worker idle, and no begin or end of a body."""
    if option(evidence.begin, "drains_when_full") is not True:
        return []
    due = [
        (name, task.ok_t + task.delay_ms * 1_000_000, min(one.begin for one in task.executions))
        for name, task in evidence.tasks.items()
        if task.ok_t is not None and task.executions  # some are given up before a body begins
    ]
    for retry in retries:
        if (due_t := due_of(evidence, retry)) is not None:
            due.append((retry.task, due_t, retry.again.begin))
    was_idle, left = idle_in(evidence), dict[str, None]()
    for from_t, until_t in _stills(evidence):
        for name, due_t, begin_t in due:
            span = max(from_t, due_t), until_t
            if begin_t >= until_t and until_t - span[0] >= allowed(evidence) and was_idle(span):
                left[name] = None
    return list(left)


def _full(evidence: Evidence) -> list[Span]:
    return [fault.lasted for fault in evidence.faults.values() if fault.traits.fills_memory and fault.lasted]


def _stills(evidence: Evidence) -> Iterator[Span]:
    """Yield the long spans without a begin or end of a body, while memory was full and the machine not starved."""
    times = [t for task in evidence.tasks.values() for one in task.executions for t in (one.begin, one.end) if t]
    for from_t, until_t in _full(evidence):
        for still in pairwise([from_t, *sorted(t for t in times if from_t < t < until_t), until_t]):
            if still[1] - still[0] >= allowed(evidence) and not evidence.starved(*still):
                yield still
