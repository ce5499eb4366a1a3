"""SIGKILL of a worker, and of the worker that takes over one of its tasks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..base import Caught, Effect, Missed, Stage, catch_worker, kill_caught, stop_and_look
from ..registry import fault
from .base import WorkerFault

LOOK_S = 0.005


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerKillInRecovery(WorkerFault):
    """SIGKILLs a worker inside a task, and then the worker that took the task over (I1, I2, I4, I5).

    The second worker dies during the recovery of the first: tasks recovered twice must still run again.
    """

    name: ClassVar[str] = "worker-kill-in-recovery"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I5")
    count: ClassVar[int] = 3

    patience_s: float = 20.0
    """Maximum wait for a worker inside a task and for the takeover of one of its tasks, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        struck: list[Caught] = []
        try:
            return self._kill_both(stage, struck)
        except Missed as missed:
            raise Missed(str(missed), _killed(struck) if struck else None) from None

    def _kill_both(self, stage: Stage, struck: list[Caught]) -> Effect:
        """Kill a worker and its successor, and append each killed worker to `struck`. Raises Missed."""
        give_up_s = time.monotonic() + self.patience_s
        while time.monotonic() < give_up_s:
            first = catch_worker(stage, self.patience_s)
            kill_caught(first)
            struck.append(first)
            stage.workers.start_missing()
            second = self._successor(stage, first, give_up_s)
            if second:
                kill_caught(second)
                struck.append(second)
                taken = len(first.tasks.keys() & second.tasks.keys())
                return _killed(struck, f" The last had taken over {taken} of the {len(first.tasks)} tasks of another.")
        raise Missed(f"No worker was seen to take over a dead one's task within {self.patience_s:g} s.")

    def _successor(self, stage: Stage, first: Caught, give_up_s: float) -> Caught | None:
        """Stop and return a worker inside a task of `first`. None if all were completed before, or on time-out."""
        while time.monotonic() < give_up_s:
            stage.ledger.poll()
            for worker in stage.workers.living():
                if first.tasks.keys() & stage.ledger.open_in_session(worker.sid).keys():
                    caught = stop_and_look(stage, worker)
                    if first.tasks.keys() & caught.tasks.keys():
                        return caught
                    worker.continue_session_members()
            if first.tasks.keys() <= stage.ledger.completed():
                return None
            stage.wait(LOOK_S)
        return None


def _killed(struck: Sequence[Caught], more: str = "") -> Effect:
    sids = ", ".join(str(one.worker.sid) for one in struck)
    return Effect(
        evidence=f"Workers that exited with status -9: {sids}.{more}",
        pids=tuple(pid for one in struck for pid in one.pids),
        tasks=tuple(dict.fromkeys(task for one in struck for task in one.tasks)),
    )
