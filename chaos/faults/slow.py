"""The baseline with tasks that take longer than a lease."""

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ..history import Aim
from .base import POLL_S, Effect, Fault, Missed, Stage, how_many
from .registry import fault

if TYPE_CHECKING:
    from .planned import PlannedTask


@fault
@dataclass(frozen=True, kw_only=True)
class Slow(Fault):
    """Injects nothing; some tasks run for twice the time that recovery takes (I3, I4).

    A queue that mistakes a slow worker for a dead one runs its tasks twice.
    """

    name: ClassVar[str] = "slow"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I4")
    aims_at: ClassVar[Aim] = "nothing"
    baseline: ClassVar[bool] = True

    tasks: int = how_many(10)
    """Number of slow tasks."""
    work_ms: int = 0
    """Length of their bodies, in ms; 0: twice the time that the target takes to recover a task."""
    patience_s: float = 30.0
    """Maximum wait for one slow body, in seconds beyond its length (beyond half of it, if `work_ms` is 0)."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        work_ms = self.work_ms or round(2_000 * recover_within_s)
        slow = set(draw.sample(range(len(tasks)), min(self.tasks, len(tasks))))
        return [replace(task, work_ms=work_ms) if number in slow else task for number, task in enumerate(tasks)]

    def inject(self, stage: Stage) -> Effect:
        needed_s = self.work_ms / 1_000 or stage.recover_within_s
        give_up_s = time.monotonic() + needed_s + self.patience_s
        longest_s = 0.0
        while time.monotonic() < give_up_s:
            stage.ledger.poll()
            longest_s = max(longest_s, stage.ledger.longest_open_s())
            if longest_s > 0.9 * needed_s:
                return Effect(evidence=f"Nothing was injected; a task body had been running for {longest_s:.1f} s.")
            stage.wait(POLL_S)
        raise Missed(f"No task body ran longer than {longest_s:.1f} s.")


@fault
@dataclass(frozen=True, kw_only=True)
class SlowIdle(Slow):
    """As slow, without any other task in the whole run (I3, I4)."""

    name: ClassVar[str] = "slow-idle"

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        few = [replace(task, at_s=0.0) for task in tasks[: self.tasks]]
        return super().arrange(few, draw, recover_within_s)
