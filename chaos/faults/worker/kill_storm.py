"""Kills of workers, faster than their leases end."""

import time
from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from ..base import Effect, Missed, Stage, stop_and_look
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerKillStorm(WorkerFault):
    """SIGKILLs one worker after the other, busy or idle, faster than the lease (I1, I2, I4, I5).

    Workers die while they start, register and recover others' tasks. Tasks are recovered again and again, and must not
    become dead letters too soon because of it.
    """

    name: ClassVar[str] = "worker-kill-storm"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I5")

    for_s: float = 6.0
    """Duration, in seconds."""
    every_s: float = 0.5
    """Seconds between two kills."""

    def inject(self, stage: Stage) -> Effect:
        pids: set[int] = set()
        tasks: set[str] = set()
        killed = 0
        until_s = time.monotonic() + self.for_s
        while time.monotonic() < until_s:
            stage.ledger.poll()
            living = stage.workers.living()
            if living:
                # Prefer a worker inside a task; a kill of one that is just starting is as useful.
                busy = [worker for worker in living if stage.ledger.open_in_session(worker.sid)]
                worker = stage.random.choice(busy or living)
                caught = stop_and_look(stage, worker)
                tasks.update(caught.tasks)
                pids.update(caught.pids)
                killed += worker.kill_session() == -SIGKILL
            stage.workers.start_missing()
            stage.wait(self.every_s)
        effect = Effect(
            evidence=f"{killed} workers exited with status -9 within {self.for_s:g} s, {len(tasks)} tasks in their "
            "bodies.",
            pids=tuple(sorted(pids)),
            tasks=tuple(sorted(tasks)),
        )
        if killed < 2:
            raise Missed(f"Only {killed} of at least 2 workers were killed.", effect)
        return effect
