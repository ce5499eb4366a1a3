"""SIGSTOP of a worker in the middle of a task, and SIGCONT after other workers have recovered its tasks."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, InMix, Stage, catch_worker
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigstop(WorkerFault):
    """Freezes a worker inside a task until its lease has ended, then resumes it: a zombie (I3, I6).

    It resumes with tasks that it no longer owns. Its acks and other commands for them must have no effect.
    """

    name: ClassVar[str] = "worker-sigstop"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I6")
    in_mix: ClassVar[InMix] = "drawn"
    count: ClassVar[int] = 5

    for_s: float = 5.0
    """Seconds for which it is stopped; a zombie requires more than the lease and a sweep."""
    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        caught = catch_worker(stage, self.patience_s)
        # Return while it is still stopped: the effect is recorded now, and explains only executions that began before.
        return Effect(
            evidence=f"Worker {caught.worker.sid} stands still inside {len(caught.tasks)} tasks, for {self.for_s:g} s.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def heal(self, stage: Stage) -> None:
        try:
            stage.wait(self.for_s)
        finally:
            for worker in stage.workers.living():
                worker.continue_session_members()
