"""The traffic of a load as series over time, for the strips above the timeline: requests, backlog, redelivery."""

from collections.abc import Iterable
from typing import Any

from chaos.evidence import gather
from chaos.history import Event
from chaos.verdicts import Result

STEPS_MAX = 1_200
SECOND_NS = 1_000_000_000


def traffic(events: Iterable[Event], result: Result, tick_ns: int) -> dict[str, Any]:
    """Columns of steps of a second, or longer where the run is long. Times are ticks since the run began."""
    evidence = gather(events)
    length_ns = max(evidence.last_t - evidence.first_t, 1)
    step_ns = max(SECOND_NS, length_ns // STEPS_MAX)
    steps = length_ns // step_ns + 1

    def step_of(t: int) -> int:
        return min(max((t - evidence.first_t) // step_ns, 0), steps - 1)

    requests, failures, backlog = [0] * steps, [0] * steps, [0] * steps
    for one in evidence.load:
        if one.phase == "second":
            # It tells of the second before it.
            step = step_of(one.t - SECOND_NS // 2)
            requests[step] += one.requests
            failures[step] += one.failures
    for task in evidence.tasks.values():
        # What a fault made late is owed from its promise on; a task may be done before its promise is heard.
        if task.ok_t is not None and (task.completed_t is None or task.completed_t > task.ok_t):
            backlog[step_of(task.ok_t)] += 1
            if task.completed_t is not None:
                backlog[step_of(task.completed_t)] -= 1
    owed = 0
    for step, change in enumerate(backlog):
        owed += change
        backlog[step] = owed
    struck_t = {fault.number: fault.effective_t for fault in evidence.faults.values()}
    redelivered = [
        [round(t + one.ms * 1e6 - evidence.first_t) // tick_ns, round(one.ms)]
        for one in result.redeliveries
        if one.ms is not None and (t := struck_t.get(one.fault)) is not None
    ]
    return {
        "step": step_ns / tick_ns,
        "requests": requests,
        "failures": failures,
        "backlog": backlog,
        "redelivered": redelivered,
    }
