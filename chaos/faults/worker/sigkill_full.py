"""SIGKILL of a worker that has claimed many tasks and not begun them."""

import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...system.processes import Managed
from ..base import (
    HELD_BACK_S,
    POLL_S,
    Caught,
    Effect,
    InMix,
    Missed,
    Stage,
    kill_caught,
    many,
    stop_and_look,
    waiting,
)
from ..planned import with_call_at_end
from ..registry import fault
from .base import WorkerFault

if TYPE_CHECKING:
    from ..planned import PlannedTask

TASKS = 120
"""Number of tasks in the call. Above 100, so that a queue that numbers its deliveries reaches three digits."""
BRIEF_SHARE = 0.52
"""Share of the call, at its beginning, with instant bodies: then a worker that prefetches claims the rest at once."""
WORK_MS = 60
START_S_MIN, START_S_MAX = 1.0, 6.0
CALM_S = 0.7
LOOK_S = 0.01


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigkillFull(WorkerFault):
    """SIGKILLs a worker, then its replacement once that one has claimed dozens of tasks of one batch (I1, I2, I4).

    The plan has such a call at its end. Meanwhile the other workers are stopped, for less than a lease, so that one
    process claims the tasks. The recovered tasks and their order can then be compared with the call.
    """

    name: ClassVar[str] = "worker-sigkill-full"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    in_mix: ClassVar[InMix] = "once"
    in_turn: ClassVar[str] = "full hand"
    last: ClassVar[bool] = True
    needs_batches: ClassVar[bool] = True
    batch_least: ClassVar[int] = TASKS
    needs_recovery_order: ClassVar[bool] = True
    holds_traffic: ClassVar[bool] = True

    calm_within_s: float = 60.0
    """Maximum wait, in seconds, for the completion of earlier tasks. The end of the run would wait for them anyway."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        rest, call = with_call_at_end(tasks, TASKS, draw)
        priority = Counter(task.priority for task in call).most_common(1)[0][0] if call else ""
        return rest + [
            replace(task, work_ms=0 if rank < BRIEF_SHARE * len(call) else WORK_MS, priority=priority)
            for rank, task in enumerate(call)
        ]

    def inject(self, stage: Stage) -> Effect:
        self._await_calm(stage)
        first, successor = self._replaced(stage)
        stage.wait(min(max(START_S_MIN, stage.startup_s()), START_S_MAX))
        before = stage.promised()
        second = self._catch_full(stage, successor, before)
        replaced = f"Worker {first.worker.sid} exited with status -9"
        if second is None:
            evidence = f"{replaced}; worker {successor.sid}, in its place, was not seen inside the call in time."
            return Effect(evidence=evidence, pids=first.pids, tasks=tuple(first.tasks))
        kill_caught(second)
        call = stage.promised() - before
        return Effect(
            evidence=f"{replaced}, and then worker {second.worker.sid}, inside {many(len(second.tasks))}: "
            f"{len(call - stage.ledger.begun)} of the {len(call)} tasks of its batch had not begun.",
            pids=(*first.pids, *second.pids),
            tasks=tuple({**first.tasks, **second.tasks}),
        )

    def _await_calm(self, stage: Stage) -> None:
        """Wait until no body has run and no task has waited for `CALM_S`, so that workers claim the call at once.

        Ignores long bodies, which may go on in the other workers.
        """
        since_s = time.monotonic()
        give_up_s = since_s + self.calm_within_s
        while time.monotonic() < min(give_up_s, since_s + CALM_S):
            stage.ledger.poll()
            if stage.ledger.open_tasks().keys() - stage.long or waiting(stage):
                since_s = time.monotonic()
            stage.wait(POLL_S)

    def _replaced(self, stage: Stage) -> tuple[Caught, Managed]:
        """Kill a worker, if possible an idle one, and start a new one, which has numbered few deliveries yet."""
        stage.ledger.poll()
        living = stage.workers.living()
        idle = [worker for worker in living if not stage.ledger.open_in_session(worker.sid)]
        if not living:
            raise Missed("No worker was running.")
        caught = stop_and_look(stage, stage.random.choice(idle or living))
        kill_caught(caught)
        stage.workers.start_missing()
        known = {worker.sid for worker in living}
        started = [worker for worker in stage.workers.living() if worker.sid not in known]
        if not started:
            raise Missed("No worker was started in place of the one that had been killed.")
        return caught, started[0]

    def _catch_full(self, stage: Stage, worker: Managed, before: frozenset[str]) -> Caught | None:
        """Stop the other workers, let the call be submitted, and stop `worker` inside it. None on time-out."""
        others = [one for one in stage.workers.living() if one is not worker]
        for one in others:
            one.stop_session_members()
        stage.let_on()
        give_up_s = time.monotonic() + min(HELD_BACK_S, stage.recover_within_s / 3)
        while time.monotonic() < give_up_s:
            stage.ledger.poll()
            call = sorted(stage.promised() - before)
            longer = frozenset(call[round(BRIEF_SHARE * len(call)) + 1 :])
            if longer & stage.ledger.open_in_session(worker.sid).keys():
                caught = stop_and_look(stage, worker)
                if caught.tasks:
                    return caught
                worker.continue_session_members()
            stage.wait(LOOK_S)
        for one in others:
            one.continue_session_members()
        return None

    def heal(self, stage: Stage) -> None:
        # Resume the others only now that the kill is recorded: before it, they have begun no task of the call.
        for worker in stage.workers.living():
            worker.continue_session_members()
        super().heal(stage)
