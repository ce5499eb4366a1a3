"""SIGKILL of a worker after the last submission."""

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

    No traffic follows, and no backlog keeps the other workers busy: a queue that recovers only when a new task arrives
    never recovers. The last tasks of the plan are long, so that one is still in its body. If only the poke at the
    deadline makes a task move, the verdict is NEEDS_TRAFFIC.
    """

    name: ClassVar[str] = "worker-sigkill-quiet"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    last: ClassVar[bool] = True

    tasks: int = how_many(4)
    """Number of long tasks."""
    work_ms: int = 3_000
    """Length of their bodies, in ms."""
    patience_s: float = 30.0
    """Maximum wait, in seconds, for the end of all submissions, and after that for each further task to begin."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        long = [replace(task, work_ms=self.work_ms) for task in tasks[-self.tasks :]]
        return tasks[: -self.tasks] + long

    def inject(self, stage: Stage) -> Effect:
        wait_for(stage, stage.workload_over, self.patience_s, f"There still was traffic after {self.patience_s:g} s.")
        self._wait_until_begun(stage)
        # A queue would give up a task that was hit repeatedly, as a poison task.
        caught = catch_worker(stage, self.patience_s, untouched=True)
        kill_caught(caught)
        return Effect(
            evidence="All tasks had been submitted and answered, and the last one had begun; "
            f"worker {caught.worker.sid} was inside {many(len(caught.tasks))}, and exited with status -9.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def _wait_until_begun(self, stage: Stage) -> None:
        last, ledger = max(stage.promised(), default=None), stage.ledger
        missed = f"No task began within {self.patience_s:g} s, and the last promised task, {last}, has not begun."
        while last is not None and last not in ledger.begun:
            # The patience starts again with each task that begins: a backlog can take any time.
            wait_for(stage, partial(_further_begun, ledger, len(ledger.begun)), self.patience_s, missed)


def _further_begun(ledger: LedgerTail, count: int) -> bool:
    ledger.poll()
    return len(ledger.begun) > count
