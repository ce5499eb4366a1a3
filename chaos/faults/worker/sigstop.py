"""SIGSTOP of a worker in the middle of a task, and SIGCONT when others have taken its tasks over."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, InMix, Stage, catch_worker
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigstop(WorkerFault):
    """Freezes a worker inside a task until its lease has ended, then resumes it: a zombie (I3, I6).

    It wakes with tasks in hand that are no longer its own. Whatever it says about them must change nothing.
    """

    name: ClassVar[str] = "worker-sigstop"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I6")
    in_mix: ClassVar[InMix] = "drawn"
    count: ClassVar[int] = 5

    for_s: float = 5.0
    """How long it stands still; to be a zombie, longer than the lease and a sweep."""
    patience_s: float = 10.0
    """How long to wait for a worker that is inside a task."""

    def inject(self, stage: Stage) -> Effect:
        caught = catch_worker(stage, self.patience_s)
        # On record now, while it stands still, so that only what began before is explained by it.
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
