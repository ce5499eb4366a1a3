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
    """SIGKILLs a worker inside a task when everything has been submitted, so that no traffic follows (I2, I4).

    Whoever recovers only when something new comes in, never does. The last tasks of the plan are long ones, so that one
    is still in its body; what moves only by the poke at the deadline is NEEDS_TRAFFIC.
    """

    name: ClassVar[str] = "worker-sigkill-quiet"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    last: ClassVar[bool] = True

    tasks: int = 20
    """How many long tasks there are."""
    work_ms: int = 3_000
    """How long these take."""
    patience_s: float = 30.0
    """How long to wait until everything is submitted and answered, and then for a worker inside a task."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        long = [replace(task, work_ms=self.work_ms) for task in tasks[-self.tasks :]]
        return tasks[: -self.tasks] + long

    def inject(self, stage: Stage) -> Effect:
        give_up_s = time.monotonic() + self.patience_s
        while not stage.workload_over():
            if time.monotonic() > give_up_s:
                raise Missed(f"There still was traffic after {self.patience_s:g} s.")
            stage.wait(POLL_S)
        caught = catch_worker(stage, self.patience_s)
        kill_caught(caught)
        return Effect(
            evidence=f"All had been submitted and answered; worker {caught.worker.sid} was inside "
            f"{many(len(caught.tasks))}, and exited with status -9.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()
