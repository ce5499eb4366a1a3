"""SIGKILL of one process of a worker."""

from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from ...system import sessions
from ..base import Effect, Missed, Stage, catch_worker, many, wait_for
from ..registry import fault
from .base import WorkerFault


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigkillChild(WorkerFault):
    """SIGKILLs a worker's child process inside a task; its parent survives and notices (I1, I2, I4).

    The kernel's OOM killer does so. The parent may clean up, start the child again, or end.
    """

    name: ClassVar[str] = "worker-sigkill-child"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 5

    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, and then for the end of the child, in seconds each."""

    def inject(self, stage: Stage) -> Effect:
        caught = catch_worker(stage, self.patience_s)
        worker = caught.worker
        children = sorted({pid for pid in caught.tasks.values() if pid != worker.pid})
        if not children:
            worker.continue_session_members()
            raise Missed(f"Worker {worker.sid} runs its tasks in its first process, not in a child.")
        child = stage.random.choice(children)
        tasks = tuple(task for task, pid in caught.tasks.items() if pid == child)
        sessions.send(child, worker.sid, SIGKILL)
        worker.continue_session_members()
        outlived = f"Process {child} outlived SIGKILL for {self.patience_s:g} s."
        wait_for(stage, lambda: child not in worker.members(), self.patience_s, outlived)
        stage.ledger.bury(child)
        return Effect(
            evidence=f"Process {child} of worker {worker.sid} was inside {many(len(tasks))} and is gone; its parent "
            f"{'lives on' if worker.poll() is None else 'ended with it'}.",
            pids=(child,),
            tasks=tasks,
        )
