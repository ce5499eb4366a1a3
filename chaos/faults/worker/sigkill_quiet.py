"""SIGKILL of a worker, and no traffic after it."""

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history.tail import LedgerTail
from ..base import Effect, Stage, catch_worker, how_many, kill_caught, many, wait_for
from ..registry import fault
from .base import WorkerFault

if TYPE_CHECKING:
    from ..planned import PlannedTask


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigkillQuiet(WorkerFault):
    """SIGKILLs a worker inside a task after the last task was submitted and begun (I2, I4).

    No traffic follows, and no backlog keeps the other workers busy: a queue that recovers only when a new task comes in
    never recovers. The last tasks of the plan are long, so that one is still in its body. A task that moves only by the
    poke at the deadline is NEEDS_TRAFFIC.
    """

    name: ClassVar[str] = "worker-sigkill-quiet"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    last: ClassVar[bool] = True

    tasks: int = how_many(4)
    """How many long tasks there are."""
    work_ms: int = 3_000
    """How long these take."""
    patience_s: float = 30.0
    """How long to wait until everything is submitted and answered, and after that for a further task to begin."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        long = [replace(task, work_ms=self.work_ms) for task in tasks[-self.tasks :]]
        return tasks[: -self.tasks] + long

    def inject(self, stage: Stage) -> Effect:
        wait_for(stage, stage.workload_over, self.patience_s, f"There still was traffic after {self.patience_s:g} s.")
        self._wait_until_begun(stage)
        # The same task again and again would be given up as one that kills its workers.
        caught = catch_worker(stage, self.patience_s, untouched=True)
        kill_caught(caught)
        return Effect(
            evidence="All had been submitted and answered, and the last had begun; "
            f"worker {caught.worker.sid} was inside {many(len(caught.tasks))}, and exited with status -9.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def _wait_until_begun(self, stage: Stage) -> None:
        last, ledger = max(stage.promised(), default=None), stage.ledger
        missed = f"No task had begun for {self.patience_s:g} s, nor {last}, the last that was promised."
        while last is not None and last not in ledger.begun:
            # Patience begins again with each: a queue takes as long as it takes for what had been submitted before.
            wait_for(stage, partial(_further_begun, ledger, len(ledger.begun)), self.patience_s, missed)


def _further_begun(ledger: LedgerTail, count: int) -> bool:
    ledger.poll()
    return len(ledger.begun) > count
