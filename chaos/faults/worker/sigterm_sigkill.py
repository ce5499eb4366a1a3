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

    The kill hits it while it releases its claimed tasks, or while it waits for running ones.
    """

    name: ClassVar[str] = "worker-sigterm-then-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 5

    after_s: float = 0.15
    """Seconds from SIGTERM to SIGKILL."""
    patience_s: float = 10.0
    """Maximum duration of the attempts, in seconds: a worker that ends before SIGKILL requires another attempt."""

    def inject(self, stage: Stage) -> Effect:
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            worker = busy_worker(stage, self.patience_s)
            worker.terminate()
            stage.wait(self.after_s)
            caught = stop_and_look(stage, worker)
            # Kill it outside a task, too: it may be releasing tasks, or about to ack some.
            if worker.kill_session() == -SIGKILL:
                return Effect(
                    evidence=f"Worker {worker.sid} was still there {self.after_s:g} s after SIGTERM, inside "
                    f"{many(len(caught.tasks))}, and exited with status -9.",
                    pids=caught.pids,
                    tasks=tuple(caught.tasks),
                )
            stage.workers.start_missing()
        raise Missed(f"Every worker had ended {self.after_s:g} s after SIGTERM.")
