"""SIGKILL of a worker's parent process alone."""

import time
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL
from typing import ClassVar

from ...system import sessions
from ..base import POLL_S, Caught, Effect, Missed, Stage, catch_worker, many
from ..registry import fault
from .base import WorkerFault

ALONE_S = 3.0
"""Seconds, beyond a worker's start-up time, in which a parent replaces a child that has ended, as by a task."""


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigkillParent(WorkerFault):
    """SIGKILLs the parent of a worker's processes; its children run on as orphans for a while (I2, I3, I4).

    No parent supervises or stops them. They and their successors must not interfere with each other.
    """

    name: ClassVar[str] = "worker-sigkill-parent"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I3", "I4")
    count: ClassVar[int] = 3

    orphans_for_s: float = 2.0
    """Seconds until the worker is started again and its orphans are killed, as systemd or a container would do it."""
    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        caught = self._catch_parent(stage)
        worker, orphans = caught.worker, caught.children
        stage.workers.postpone(worker, self.orphans_for_s)
        # The kernel sends SIGHUP to children that are orphaned while stopped, so resume them first.
        for pid in orphans:
            sessions.send(pid, worker.sid, SIGCONT)
        worker.terminate(SIGKILL)
        status = worker.wait()
        left = len(worker.members())
        if status != -SIGKILL:
            raise Missed(f"Worker {worker.sid} had ended by itself, with status {status}, before it was killed.")
        return Effect(
            evidence=f"The parent of worker {worker.sid} exited with status -9, inside {many(len(caught.tasks))}; "
            f"{left} of its {len(orphans)} children lived on.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def _catch_parent(self, stage: Stage) -> Caught:
        """SIGSTOP a worker that is inside a task and has children. Raises Missed if none is found in time."""
        give_up_s = time.monotonic() + ALONE_S + stage.startup_s()
        while not (caught := catch_worker(stage, self.patience_s)).children:
            caught.worker.continue_session_members()
            if time.monotonic() > give_up_s:
                raise Missed(f"Worker {caught.worker.sid} is one process: it has no children.")
            stage.wait(POLL_S)
        return caught

    def heal(self, stage: Stage) -> None:
        give_up_s = time.monotonic() + self.orphans_for_s
        while len(stage.workers.living()) < stage.workers.size and time.monotonic() < give_up_s:
            stage.wait(POLL_S)
        stage.workers.start_missing()
