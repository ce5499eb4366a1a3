"""SIGKILL of a worker, and no traffic after it."""

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from .fault import POLL_S, Effect, Fault, Missed, Stage, catch_worker, kill_caught, many

if TYPE_CHECKING:
    from chaos.plan import PlannedTask


@dataclass(frozen=True, kw_only=True)
class WorkerSigkillQuiet(Fault):
    """SIGKILLs a worker inside a task when everything has been submitted, and the last has begun (I2, I4).

    So no traffic follows, and no backlog that keeps the others at work: whoever recovers only when something new comes
    in, never does. The last tasks of the plan are long ones, so that one is still in its body; what moves only by the
    poke at the deadline is NEEDS_TRAFFIC.
    """

    name: ClassVar[str] = "worker-sigkill-quiet"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    last: ClassVar[bool] = True

    tasks: int = 4
    """How many long tasks there are."""
    work_ms: int = 3_000
    """How long these take."""
    patience_s: float = 30.0
    """How long to wait until everything is submitted and answered, and after that for a further task to begin."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        long = [replace(task, work_ms=self.work_ms) for task in tasks[-self.tasks :]]
        return tasks[: -self.tasks] + long

    def inject(self, stage: Stage) -> Effect:
        self._wait_until_submitted(stage)
        self._wait_until_begun(stage)
        caught = catch_worker(stage, self.patience_s)
        kill_caught(caught)
        return Effect(
            evidence="All had been submitted and answered, and the last had begun; "
            f"worker {caught.worker.sid} was inside {many(len(caught.tasks))}, and exited with status -9.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def _wait_until_submitted(self, stage: Stage) -> None:
        give_up_s = time.monotonic() + self.patience_s
        while not stage.workload_over():
            if time.monotonic() > give_up_s:
                raise Missed(f"There still was traffic after {self.patience_s:g} s.")
            stage.wait(POLL_S)

    def _wait_until_begun(self, stage: Stage) -> None:
        last, begun, give_up_s = max(stage.promised(), default=None), -1, 0.0
        while last is not None and last not in stage.ledger.begun:
            stage.ledger.poll()
            if len(stage.ledger.begun) > begun:
                # A queue takes as long as it takes for what had been submitted before.
                begun, give_up_s = len(stage.ledger.begun), time.monotonic() + self.patience_s
            if time.monotonic() > give_up_s:
                raise Missed(f"No task had begun for {self.patience_s:g} s, nor {last}, the last that was promised.")
            stage.wait(POLL_S)

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()
