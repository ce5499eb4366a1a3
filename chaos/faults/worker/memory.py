"""A worker that can't allocate more memory."""

import sys
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history.tail import LedgerTail
from ...system.processes import Managed
from ..base import POLL_S, Effect, Missed, Stage, busy_worker
from ..registry import fault
from .base import WorkerFault

if TYPE_CHECKING:
    from ..planned import PlannedTask

HUNGRY_EVERY = 5
"""One task in this many has a body that allocates much memory."""


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerMemory(WorkerFault):
    """Limits the memory of a worker's processes to little more than they use, for seconds (I1, I2, I5).

    The limit is RLIMIT_AS: an allocation beyond it raises MemoryError or ends the process. The plan has `hungry` tasks
    for it, whose bodies allocate much memory; but an allocation of the queue's own code can fail, too.
    """

    name: ClassVar[str] = "worker-memory"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I5")
    count: ClassVar[int] = 2

    for_s: float = 3.0
    """Maximum duration, in seconds; the limit is lifted as soon as it has had an effect."""
    room_bytes: int = 8_000_000
    """Bytes of address space that each process can still allocate."""
    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, in seconds."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        hungry = set(draw.sample(range(len(tasks)), max(1, len(tasks) // HUNGRY_EVERY)))
        return [
            replace(task, behaviour="hungry") if number in hungry and not task.behaviour else task
            for number, task in enumerate(tasks)
        ]

    def inject(self, stage: Stage) -> Effect:
        if not sys.platform.startswith("linux"):
            raise Missed("This fault needs Linux: only there can one process set the resource limits of another.")
        worker = busy_worker(stage, self.patience_s)
        pids = tuple(worker.members())
        errors_before = stage.ledger.errors("MemoryError", pids)
        for pid in pids:
            _limit(pid, self.room_bytes)
        until_s = time.monotonic() + self.for_s
        felt, tasks = "", dict(stage.ledger.open_in_session(worker.sid))
        while time.monotonic() < until_s and not felt:
            stage.wait(POLL_S)
            stage.ledger.poll()
            felt = _felt(worker, pids, stage.ledger, stage.ledger.errors("MemoryError", pids) - errors_before)
            tasks = dict(stage.ledger.open_in_session(worker.sid)) or tasks
        if not felt:
            raise Missed(f"Worker {worker.sid} did not reach its memory limit within {self.for_s:g} s.")
        return Effect(
            evidence=f"Worker {worker.sid} was limited to {self.room_bytes} bytes more memory than it used: {felt}.",
            pids=pids,
            tasks=tuple(tasks),
        )

    def heal(self, stage: Stage) -> None:
        for worker in stage.workers.living():
            for pid in worker.members():
                _limit(pid, None)
        stage.workers.start_missing()


def _felt(worker: Managed, pids: tuple[int, ...], ledger: LedgerTail, errors: int) -> str:
    """Describe the effect of the limit so far; empty if there is none."""
    if errors:
        return f"{errors} of its tasks raised MemoryError"
    if status := worker.poll():
        return f"it ended with status {status}"
    # A child can also end normally, when its work is done, but then it has no open body.
    fallen = [pid for pid in ledger.cut_off().values() if pid in pids]
    return f"process {fallen[0]} is gone, in the middle of a task" if fallen else ""


def _limit(pid: int, room_bytes: int | None) -> None:
    """Limit the address space of a process to its current size and `room_bytes`; None: back to the hard limit."""
    import psutil

    try:
        process = psutil.Process(pid)
        _, hard = process.rlimit(psutil.RLIMIT_AS)
        soft = hard if room_bytes is None else process.memory_info().vms + room_bytes
        process.rlimit(psutil.RLIMIT_AS, (soft, hard))
    except psutil.NoSuchProcess:
        pass
