"""SIGSTOP of a worker in the middle of a task, and SIGCONT when others have taken its tasks over."""

import time
from dataclasses import dataclass
from typing import ClassVar

from ..base import POLL_S, Effect, InMix, Missed, Stage, busy_worker
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigstop(WorkerFault):
    """Freezes a worker inside a task, past its lease, and lets it go on: a zombie (I3, I6).

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
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            worker = busy_worker(stage, self.patience_s)
            pids = tuple(worker.stop_session_members())
            stage.ledger.poll()
            tasks = stage.ledger.open_in_session(worker.sid)
            if tasks:
                # On record now, while it stands still, so that only what began before is explained by it.
                return Effect(
                    evidence=f"Worker {worker.sid} stands still inside {len(tasks)} tasks, for {self.for_s:g} s.",
                    pids=pids,
                    tasks=tuple(tasks),
                )
            worker.continue_session_members()
            stage.wait(POLL_S)
        raise Missed(f"No worker was stopped inside a task within {self.patience_s:g} s.")

    def heal(self, stage: Stage) -> None:
        try:
            stage.wait(self.for_s)
        finally:
            for worker in stage.workers.living():
                worker.continue_session_members()
