"""SIGTERM of a worker in the middle of a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from signal import SIGTERM, Signals
from typing import ClassVar

from ..base import Brought, Effect, InMix, Missed, Stage, busy_worker
from ..registry import fault
from .base import WorkerFault

FORWARDED_S = 0.1


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigterm(WorkerFault):
    """Sends SIGTERM to a worker inside a task, and waits until it has ended (I1, I2).

    It must release the tasks that it claimed and has not begun, and finish those that run, even if that takes seconds.
    With `to_all` each of its processes is signalled, as systemd does it (KillMode=control-group).
    """

    name: ClassVar[str] = "worker-sigterm"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    in_mix: ClassVar[InMix] = "drawn"
    drawn_options: ClassVar[tuple[str, ...]] = ("to_all",)
    count: ClassVar[int] = 5
    asks_to_end: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"long": 2}
    signal: ClassVar[Signals] = SIGTERM

    patience_s: float = 12.0
    """Maximum wait for a worker inside a task, and then for its end, in seconds each."""
    to_all: bool = False
    """Whether to signal every process of the session, in place of its first process only."""
    twice: bool = False
    """Whether to send the signal again within moments, as a wrapper does that forwards what its whole group got."""

    def inject(self, stage: Stage) -> Effect:
        worker = busy_worker(stage, self.patience_s, long=True)
        tasks, pids = stage.ledger.open_in_session(worker.sid), tuple(worker.members())
        worker.terminate(self.signal, to_all=self.to_all)
        if self.twice:
            stage.wait(FORWARDED_S)
            worker.terminate(self.signal, to_all=self.to_all)
        try:
            status = worker.wait(self.patience_s)
        except TimeoutError:
            raise Missed(
                f"Worker {worker.sid} did not end within {self.patience_s:g} s after {self.signal.name}."
            ) from None
        return Effect(
            evidence=f"Worker {worker.sid} was inside {len(tasks)} tasks at {self.signal.name}"
            f"{f' to all {len(pids)} of its processes' * (self.to_all and len(pids) > 1)}"
            f"{', sent twice' * self.twice}, and exited with status {status}.",
            pids=pids,
            tasks=tuple(tasks),
        )
