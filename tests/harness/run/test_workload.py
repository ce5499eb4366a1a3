"""The workload: tasks due at once, and a trickle that waits for the workers."""

import math
import time
from typing import Any

from msgspec.structs import replace
from support.waiting import wait_until
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.run.workload import FASTER, Workload


class Sent:
    """A submitter that records its tasks."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def enqueue(self, *tasks: Any) -> None:
        self.tasks += [task.id for task in tasks]


def forty_tasks() -> Plan:
    return make_plan(seed=1, target="brpop", server="embedded", appendfsync="off", workers=1, tasks=40, faults=[])


def test_the_trickle_waits_for_the_rest_of_the_run_and_goes_on_at_its_own_pace() -> None:
    plan = forty_tasks()
    upon = sorted(task.at_s for task in plan.tasks)
    backlog, half = upon.count(0.0), upon[25]
    sent, horizon_s = Sent(), 0.0
    workload = Workload(plan, sent, lambda: horizon_s, lambda: horizon_s == math.inf)  # type: ignore[arg-type]
    workload.start()
    try:
        wait_until(lambda: len(sent.tasks) >= backlog)
        for horizon_s in (0.0, half):
            due = sum(at_s <= horizon_s for at_s in upon)
            wait_until(lambda due=due: len(sent.tasks) >= due, 30)
            workload.join(0.5)
            assert workload.is_alive()
            assert len(sent.tasks) == due
        begun_s, horizon_s = time.monotonic(), math.inf
        workload.join(30)
        assert time.monotonic() - begun_s >= 0.9 * (upon[-1] - half - 0.1) / FASTER
    finally:
        workload.close()
    assert workload.failure is None
    assert sent.tasks == [task.id for task in plan.tasks]


def test_a_trickle_that_is_late_goes_on_faster_once_no_fault_is_to_come_and_one_that_is_not_does_not() -> None:
    plan = forty_tasks()
    last_s = plan.tasks[-1].at_s

    def lasted_s(*, held_s: float) -> float:
        opens_s = time.monotonic() + held_s
        sent = Sent()
        workload = Workload(
            plan,
            sent,  # type: ignore[arg-type]
            lambda: math.inf if time.monotonic() >= opens_s else 0.0,
            lambda: time.monotonic() >= opens_s,
        )
        workload.start()
        workload.join(30)
        assert len(sent.tasks) == 40
        return time.monotonic() - opens_s

    assert lasted_s(held_s=0.0) >= 0.95 * last_s
    assert lasted_s(held_s=2 * last_s) < 0.8 * last_s


def test_a_task_that_a_fault_needs_comes_when_it_begins_and_the_others_wait_for_nothing() -> None:
    plan = forty_tasks()
    fault_of = {2: 1, 38: 2, 39: 2}
    tasks = [replace(task, fault=fault_of.get(place, 0)) for place, task in enumerate(plan.tasks)]
    begun = set[int]()
    sent = Sent()
    workload = Workload(
        replace(plan, tasks=tasks),
        sent,  # type: ignore[arg-type]
        lambda: math.inf,
        has_begun=lambda number: number in begun,
    )
    workload.start()
    try:
        wait_until(lambda: len(sent.tasks) >= 37, 30)
        for number, places in ((2, (38, 39)), (1, (2,))):
            workload.join(0.2)
            assert workload.is_alive()
            wanted = [*sent.tasks, *(tasks[place].id for place in places)]
            begun.add(number)
            wait_until(lambda wanted=wanted: len(sent.tasks) >= len(wanted), 30)
            assert sent.tasks == wanted
        workload.join(30)
        assert not workload.is_alive()
    finally:
        workload.close()
    assert workload.failure is None
