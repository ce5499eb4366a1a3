"""What a target with a time limit must not do: wait for a body that hangs."""

from ..evidence import Evidence, Execution
from ..stated import option, seconds

SECOND = 1_000_000_000
MARGIN_S = 5.0
"""A queue looks at its limits now and then, and a busy machine adds to it."""


def waited_for_of(evidence: Evidence) -> list[str]:
    """The tasks whose body hung, and came to its end long after the limit, without the task's having been run again.

    A thread can't be stopped: a body may come to its end although its task has failed. Then the task is tried again.
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
    """For how long it ran, in ns; 0: it did not come to its end, or the machine was starved meanwhile."""
    end_t = one.end or 0
    return 0 if evidence.starved(one.begin, end_t) else end_t - one.begin
