"""An idle worker that is stopped until its lease has ended, and killed before it resumes."""

import time
from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

import psutil

from ...history import Aim
from ..base import POLL_S, Effect, Missed, Stage
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class AsleepSigkill(WorkerFault):
    """Freezes an idle worker until its lease has ended, then kills it without resuming it (I2, I4).

    The server does not notice: it may deliver a task to the blocked claim of a worker whose lease has ended.
    """

    name: ClassVar[str] = "asleep-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    aims_at: ClassVar[Aim] = "idle worker"
    count: ClassVar[int] = 3

    for_s: float = 5.0
    """Seconds for which it is stopped; must exceed the lease and a sweep."""
    settled_s: float = 3.0
    """Minimum age, in seconds, of a worker that surely waits for work by now."""
    patience_s: float = 10.0
    """Maximum wait for an idle worker, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            stage.ledger.poll()
            idle = [worker for worker in stage.workers.living() if not stage.ledger.open_in_session(worker.sid)]
            settled = [worker for worker in idle if age_s(worker.pid) >= self.settled_s]
            if settled:
                worker = stage.random.choice(settled)
                pids = tuple(worker.stop_session_members())
                try:
                    stage.wait(self.for_s)
                finally:
                    status = worker.kill_session()
                if status == -SIGKILL:
                    return Effect(
                        evidence=f"Worker {worker.sid} slept for {self.for_s:g} s and exited with status -9.", pids=pids
                    )
            stage.wait(POLL_S)
        raise Missed(f"No idle worker was found within {self.patience_s:g} s.")


def age_s(pid: int) -> float:
    """Return the age of a process in seconds; 0 if it has ended."""
    try:
        return time.time() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0
