"""The traffic of a load as series over time, for the strips above the timeline: requests, backlog, redelivery."""

from collections.abc import Iterable
from typing import Any

from ..checker.evidence import gather
from ..checker.verdicts import Result
from ..history import Event

STEPS_MAX = 1_200
SECOND_NS = 1_000_000_000


def traffic(events: Iterable[Event], result: Result, tick_ns: int) -> dict[str, Any]:
    """Return columns with a value per step of a second, longer in a long run. Times are ticks since the run began."""
    evidence = gather(events)
    length_ns = max(evidence.last_t - evidence.first_t, 1)
    step_ns = max(SECOND_NS, length_ns // STEPS_MAX)
    steps = length_ns // step_ns + 1

    def step_of(t: int) -> int:
        return min(max((t - evidence.first_t) // step_ns, 0), steps - 1)

    requests, failures, backlog = [0.0] * steps, [0.0] * steps, [0] * steps
    told_t: dict[int, int] = {}  # process of Locust -> end of its last report
    for one in evidence.load:
        if one.phase == "second":
            since_t = max(told_t.get(one.pid, 0), one.t - 2 * SECOND_NS)
            told_t[one.pid] = one.t
            # The seconds of Locust differ from the steps: its counts are spread over the steps that they overlap.
            for step in range(step_of(since_t), step_of(one.t) + 1):
                begin_t = evidence.first_t + step * step_ns
                share = max(0, min(one.t, begin_t + step_ns) - max(since_t, begin_t)) / max(one.t - since_t, 1)
                requests[step] += one.requests * share
                failures[step] += one.failures * share
    for task in evidence.tasks.values():
        # A task is in the backlog from its promise on; it may be done before its promise arrives.
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
        "requests": [round(count) for count in requests],
        "failures": [round(count) for count in failures],
        "backlog": backlog,
        "redelivered": redelivered,
    }
