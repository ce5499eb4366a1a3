"""What a run in which nothing was disturbed must show: no duplicates and, where the target says so, order (I7).

At-least-once allows duplicates, but for a reason. Here there is none. That tasks are not overtaken for long holds in
any run.
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
    """What a run must not show, in clauses: duplicates and disorder in a baseline, the others in any.

    `overtaken`: against a promise.
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
    """Whether the target says that it runs one task at a time, first in first out, and nothing disturbed it."""
    return evidence.undisturbed and option(evidence.begin, "in_order") is True


def promises_fifo(evidence: Evidence) -> bool:
    """Whether the target says that tasks begin in their order, and, in a baseline, the machine let it run."""
    return option(evidence.begin, "fifo") is True and not (evidence.undisturbed and evidence.late)


def disorder_of(evidence: Evidence) -> list[str]:
    """The violations of I7 in a run that promises order."""
    if not promises_order(evidence):
        return []
    tasks = {name: task for name, task in evidence.tasks.items() if task.promised and task.executions}
    executed = sorted(tasks, key=lambda name: tasks[name].executions[0].begin)
    return order(_accepted(tasks, executed), executed)


def _accepted(tasks: Mapping[str, Task], executed: list[str]) -> list[str]:
    """An order in which the tasks may have been accepted; of all such, the one that fits the executions best.

    A task was accepted at some moment between the call and its return, so that two whose calls overlap may have been
    accepted either way round.
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
        # A call after that return was accepted after it.
        first_return_t = tasks[by_return[returned]].ok_t or 0
        while called < len(by_call) and (tasks[by_call[called]].invoked_t or 0) <= first_return_t:
            heapq.heappush(ready, rank[by_call[called]])
            called += 1
        name = executed[heapq.heappop(ready)]
        taken.add(name)
        accepted.append(name)
    return accepted
