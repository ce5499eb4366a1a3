"""Whether a target with a time limit waits for a body that hangs, which it must not do."""

from ..evidence import Evidence, Execution
from ..stated import option, seconds

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
    listed = option(evidence.begin, "hanging")
    over = round((limit_s + MARGIN_S) * SECOND)
    return [
        name
        for name in (listed if isinstance(listed, list) else ())
        if isinstance(name, str) and name in evidence.tasks
        if len(executions := evidence.tasks[name].executions) == 1 and _lasted(evidence, executions[0]) > over
    ]


def _lasted(evidence: Evidence, one: Execution) -> int:
    """Return how long it ran, in ns; 0: it did not end, or the machine was starved meanwhile."""
    end_t = one.end or 0
    return 0 if evidence.starved(one.begin, end_t) else end_t - one.begin
