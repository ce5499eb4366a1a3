"""A pause of all claiming, and what waits meanwhile."""

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history import Aim
from ..base import POLL_S, Effect, Fault, InMix, Stage, await_begun, many, wait_for, waited_for
from ..planned import with_call_at_end
from ..registry import fault

if TYPE_CHECKING:
    from ..planned import PlannedTask

TASKS = 66
"""Number of tasks in the call: enough of each of three priorities to compare them."""
WORK_MS = 5
DELAY_MS, SPREAD_MS = 300, 8
"""Delay of the scheduled tasks, in ms, and the span of their moments: so the order of time mixes their priorities."""
ANSWERED_S = 3.0
"""Maximum wait, in seconds, for the answer to the call."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClientPauses(Fault):
    """Pauses all claiming, as an operator does, while tasks of all priorities become due; then resumes it (I2, I7).

    The plan has such a call at its end. No task may begin while the queue is paused. Afterwards those of the first
    priority come first, although all had become due at the same time.
    """

    name: ClassVar[str] = "client-pauses"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I7")
    aims_at: ClassVar[Aim] = "nothing"
    pauses: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"
    last: ClassVar[bool] = True
    holds_traffic: ClassVar[bool] = True
    needs_pause: ClassVar[bool] = True

    for_s: float = 1.2
    """Seconds from the answer to the call until claiming is resumed: scheduled tasks become due in the meantime."""
    patience_s: float = 10.0
    """Maximum wait for a certain answer to the pause, in seconds."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        rest, call = with_call_at_end(tasks, TASKS, draw)
        priorities = sorted({task.priority for task in tasks})
        scheduled = any(task.delay_ms for task in tasks)
        return rest + [
            replace(
                task,
                work_ms=WORK_MS,
                priority=priorities[place % len(priorities)],
                delay_ms=DELAY_MS + place % SPREAD_MS if scheduled else 0,
            )
            for place, task in enumerate(call)
        ]

    def inject(self, stage: Stage) -> Effect:
        before = stage.promised()
        wait_for(stage, stage.pause, self.patience_s, "It is unknown whether claiming was paused.")
        stage.wait(stage.pauses_within_s)
        paused_t = time.monotonic_ns()
        stage.let_on()
        waited_for(stage, lambda: len(stage.promised() - before), ANSWERED_S)
        stage.wait(self.for_s)
        until_t = time.monotonic_ns()
        stage.ledger.poll()
        call = stage.promised() - before
        begun = len(call & stage.ledger.begun)
        return Effect(
            evidence=f"Claiming was paused; {many(len(call))} came meanwhile, of which {begun} began.",
            lasted=(paused_t, until_t),
        )

    def heal(self, stage: Stage) -> None:
        while not stage.resume():
            stage.wait(POLL_S)
        await_begun(stage, stage.pauses_within_s)  # a later fault could explain any order
