"""SIGKILL of a worker in the middle of a task."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, InMix, Missed, Stage, catch_worker, kill_caught, many
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigkill(WorkerFault):
    """SIGKILLs a worker's whole session while it is inside a task's body (I1, I2, I4).

    The session is stopped first, and killed only if the ledger still shows an open task then. So the kill is certain to
    hit the worker in the middle of a task.
    """

    name: ClassVar[str] = "worker-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    in_mix: ClassVar[InMix] = "always"
    count: ClassVar[int] = 50

    stays_dead: bool = False
    """Whether the worker is not started again in this run, so that other workers must recover its tasks."""
    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        caught = catch_worker(stage, self.patience_s)
        if self.stays_dead and not stage.workers.retire(caught.worker):
            caught.worker.continue_session_members()
            raise Missed(f"Worker {caught.worker.sid} is the last one, and can't stay dead.")
        kill_caught(caught)
        return Effect(
            evidence=f"Worker {caught.worker.sid} was inside {many(len(caught.tasks))} when it was stopped, and exited "
            f"with status -9{' for the rest of the run' if self.stays_dead else ''}.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )
