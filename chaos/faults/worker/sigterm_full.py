"""SIGTERM of a worker that has claimed many tasks and not begun them."""

from dataclasses import dataclass
from typing import ClassVar

from ...system.processes import Managed
from ..base import HELD_BACK_S, Effect, Missed, Stage, await_begun, many
from ..registry import fault
from .sigkill_full import WorkerSigkillFull


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigtermFull(WorkerSigkillFull):
    """Sends SIGTERM to a worker that has claimed dozens of tasks of one batch; another one runs the rest (I1, I2).

    The plan has such a call at its end. The other workers are stopped until the worker has ended, and all but one of
    them until the tasks that it gave back have begun. So their order can be compared with the call.
    """

    name: ClassVar[str] = "worker-sigterm-full"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    asks_to_end: ClassVar[bool] = True

    patience_s: float = 12.0
    """Maximum wait for the end of the worker, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        self._await_calm(stage)
        living = _idlest_first(stage)
        if len(living) < 2:
            raise Missed("There was no second worker that could run what the first one gives back.")
        worker, before = living[0], stage.promised()
        caught = self._catch_full(stage, worker, before)
        if caught is None:
            return Effect(evidence=f"Worker {worker.sid} was not seen inside the call in time.")
        worker.terminate()
        worker.continue_session_members()
        try:
            status = worker.wait(self.patience_s)
        except TimeoutError:
            raise Missed(f"Worker {worker.sid} did not end within {self.patience_s:g} s after SIGTERM.") from None
        stage.ledger.poll()
        call = stage.promised() - before
        return Effect(
            evidence=f"Worker {worker.sid} was inside {many(len(caught.tasks))} at SIGTERM, and exited with status "
            f"{status}: {len(call - stage.ledger.begun)} of the {len(call)} tasks of its batch had not begun.",
            pids=caught.pids,
            tasks=tuple(caught.tasks),
        )

    def heal(self, stage: Stage) -> None:
        for worker in _idlest_first(stage)[:1]:
            worker.continue_session_members()
            await_begun(stage, min(HELD_BACK_S, stage.recover_within_s / 3))
        super().heal(stage)


def _idlest_first(stage: Stage) -> list[Managed]:
    stage.ledger.poll()
    return sorted(stage.workers.living(), key=lambda one: len(stage.ledger.open_in_session(one.sid)))
