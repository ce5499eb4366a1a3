"""SIGTERM of a worker, and SIGKILL before it has ended."""

import time
from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from ..base import Effect, Missed, Stage, busy_worker, many, stop_and_look
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigtermSigkill(WorkerFault):
    """Sends SIGTERM to a worker inside a task, then SIGKILL before it has ended (I1, I2, I4).

    It is killed in the middle of giving back what it had claimed, or while it waits for what runs.
    """

    name: ClassVar[str] = "worker-sigterm-then-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 5

    after_s: float = 0.15
    """From SIGTERM to SIGKILL."""
    patience_s: float = 10.0
    """How long to try: a worker may end sooner than that."""

    def inject(self, stage: Stage) -> Effect:
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            worker = busy_worker(stage, self.patience_s)
            worker.terminate()
            stage.wait(self.after_s)
            caught = stop_and_look(stage, worker)
            # Inside a task or not: it may have been giving back, or about to say that tasks are done.
            if worker.kill_session() == -SIGKILL:
                return Effect(
                    evidence=f"Worker {worker.sid} was still inside {many(len(caught.tasks))} {self.after_s:g} s after "
                    "SIGTERM, and exited with status -9.",
                    pids=caught.pids,
                    tasks=tuple(caught.tasks),
                )
            stage.workers.start_missing()
        raise Missed(f"Every worker had ended {self.after_s:g} s after SIGTERM.")
