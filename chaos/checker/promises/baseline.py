"""Rules for a baseline, a run without disturbances: no duplicates and, if the target states it, order (I7).

At-least-once allows duplicates only for a reason, and a baseline has none. The rule that no task is overtaken for long
holds in any run.
"""

import heapq
from collections.abc import Mapping

from ...invariants import order
from ..evidence import Evidence, Task
from ..stated import option
from ..verdicts import Duplicate
from ..wording import plural


def breaches_of(
    evidence: Evidence, duplicates: list[Duplicate], disorder: list[str], overtaken: list[str]
) -> list[str]:
    """Return a clause for each broken rule: duplicates and disorder count in a baseline, the others in any run.

    `overtaken`: tasks that were overtaken against a promise.
    """
    breaches = []
    if wrong := [name for name, task in evidence.tasks.items() if task.answered_wrongly]:
        breaches.append(f"{plural(len(wrong), 'task')} got an answer that can't be true: {', '.join(wrong[:3])}")
    if duplicates and evidence.undisturbed:
        breaches.append(f"{plural(len(duplicates), 'task')} completed more than once though nothing was disturbed")
    if disorder:
        breaches.append(f"{plural(len(disorder), 'task')} ran out of order though one worker ran one at a time (I7)")
    if overtaken:
        breaches.append(f"{plural(len(overtaken), 'task')} began long after later ones had been completed (I7)")
    return breaches


def promises_order(evidence: Evidence) -> bool:
    """Return whether this is a baseline of a target that runs one task at a time, first in first out (`in_order`)."""
    return evidence.undisturbed and option(evidence.begin, "in_order") is True


def promises_fifo(evidence: Evidence) -> bool:
    """Return whether the target states `fifo`; False for a baseline on a starved machine."""
    return option(evidence.begin, "fifo") is True and not (evidence.undisturbed and evidence.late)


def disorder_of(evidence: Evidence) -> list[str]:
    """Return the violations of I7 in a run that promises order."""
    if not promises_order(evidence):
        return []
    tasks = {name: task for name, task in evidence.tasks.items() if task.promised and task.executions}
    executed = sorted(tasks, key=lambda name: tasks[name].executions[0].begin)
    return order(_accepted(tasks, executed), executed)


def _accepted(tasks: Mapping[str, Task], executed: list[str]) -> list[str]:
    """Return an order in which the tasks may have been accepted: of all such orders, the one closest to the executions.

    A task was accepted at some time between its call and the return of that call. So two tasks whose calls overlap may
    have been accepted in either order.
    """
    rank = {name: number for number, name in enumerate(executed)}
    by_call = sorted(tasks, key=lambda name: tasks[name].invoked_t or 0)
    by_return = sorted(tasks, key=lambda name: tasks[name].ok_t or 0)
    accepted: list[str] = []
    taken: set[str] = set()
    ready: list[int] = []
    called = returned = 0
    while len(accepted) < len(executed):
        while by_return[returned] in taken:
            returned += 1
        # A task whose call began after that return was accepted later.
        first_return_t = tasks[by_return[returned]].ok_t or 0
        while called < len(by_call) and (tasks[by_call[called]].invoked_t or 0) <= first_return_t:
            heapq.heappush(ready, rank[by_call[called]])
            called += 1
        name = executed[heapq.heappop(ready)]
        taken.add(name)
        accepted.append(name)
    return accepted
