"""The workload: what is due at once, and the trickle that waits for the workers."""

from typing import Any

from support.waiting import wait_until
from zeroloss.plan.plan import make_plan
from zeroloss.run.workload import Workload


class Sent:
    """A submitter that keeps what it gets."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def enqueue(self, *tasks: Any) -> None:
        self.tasks += [task.id for task in tasks]


def test_the_trickle_waits_until_workers_work_so_that_a_slow_start_does_not_heap_the_run_up() -> None:
    plan = make_plan(
        seed=1, target="brpop", server="embedded", appendfsync="off", workers=1, tasks=40, faults=[]
    )  # fmt: skip
    backlog = [task.id for task in plan.tasks if not task.at_s]
    sent = Sent()
    workload = Workload(plan, sent)  # type: ignore[arg-type]
    workload.start()
    try:
        wait_until(lambda: len(sent.tasks) >= len(backlog))
        workload.join(0.3)
        assert workload.is_alive()
        assert sent.tasks == backlog
        workload.go_on()
        wait_until(lambda: len(sent.tasks) > len(backlog), 30)
    finally:
        workload.close()
    assert workload.failure is None
    assert not workload.is_alive()
