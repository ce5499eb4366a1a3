"""SIGKILL of a worker in the middle of a task."""

import time
from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from .fault import POLL_S, Effect, Fault, Missed, Stage, busy_worker


@dataclass(frozen=True, kw_only=True)
class WorkerSigkill(Fault):
    """SIGKILLs a worker's whole session while it is inside a task's body (I1, I2, I4).

    The session is stopped first, and the ledger read again: only if a task is still open then is it killed. So "in the
    middle of a task" is seen, not hoped for.
    """

    name: ClassVar[str] = "worker-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 50

    patience_s: float = 10.0
    """How long to wait for a worker that is inside a task."""

    def inject(self, stage: Stage) -> Effect:
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            worker = busy_worker(stage, self.patience_s)
            worker.stop_session_members()
            stage.ledger.poll()
            tasks = stage.ledger.open_in_session(worker.sid)
            if tasks:
                # Read while it stands still: a dead process can't be asked what it had been.
                pids = tuple(worker.members())
                status = worker.kill_session()
                return _effect(worker.sid, status, pids, tasks)
            worker.continue_session_members()
            stage.wait(POLL_S)
        raise Missed(f"No worker was seen inside a task within {self.patience_s:g} s.")

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()


def _effect(sid: int, status: int, pids: tuple[int, ...], tasks: dict[str, int]) -> Effect:
    if status != -SIGKILL:
        raise Missed(f"Worker {sid} had ended by itself, with status {status}, before it was killed.")
    many = f"{len(tasks)} tasks" if len(tasks) > 1 else "a task"
    return Effect(
        evidence=f"Worker {sid} was inside {many} when it was stopped, and exited with status -9.",
        pids=pids,
        tasks=tuple(tasks),
    )
