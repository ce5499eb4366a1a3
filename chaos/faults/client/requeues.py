"""Requeues of dead letters."""

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history import Aim
from ..base import Effect, Fault, InMix, Stage, how_many, many, wait_for
from ..registry import fault

if TYPE_CHECKING:
    from ..planned import PlannedTask

BEHAVIOUR = "raise-always"

MANY_S = 4.0
"""Maximum wait, in seconds, for the wanted number of dead letters; after that, fewer are enough."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClientRequeues(Fault):
    """Requeues dead letters, as an operator does, while everything else goes on (I1, I2, I5).

    Each must run again with all its attempts, and become a dead letter again, as its body still raises.
    """

    name: ClassVar[str] = "client-requeues"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I5")
    aims_at: ClassVar[Aim] = "nothing"
    requeues: ClassVar[bool] = True
    needs_requeue: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"

    tasks: int = how_many(20)
    """Maximum number of dead letters to requeue."""
    early: int = how_many(3)
    """Number of early tasks that raise at every attempt, so that dead letters appear soon."""
    patience_s: float = 30.0
    """Maximum wait, in seconds, for dead letters and for the confirmation of their requeue."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        first = [task.id for task in tasks if not task.behaviour and not task.delay_ms][: self.early]
        return [replace(task, behaviour=BEHAVIOUR) if task.id in first else task for task in tasks]

    def inject(self, stage: Stage) -> Effect:
        planned = stage.behaving.get(BEHAVIOUR, frozenset())
        wait_for_many_until_s = time.monotonic() + min(MANY_S, self.patience_s / 3)
        asked: list[str] = []

        def requeued() -> int:
            dead = planned & stage.dead_letters()
            if not asked and (len(dead) >= self.tasks or time.monotonic() > wait_for_many_until_s):
                asked.extend(stage.random.sample(sorted(dead), min(self.tasks, len(dead))))
            # If the answer was lost, ask again, for those that are still dead letters.
            return len(asked) if asked and stage.requeue([name for name in asked if name in dead]) else 0

        missed = f"There was no dead letter that could be requeued within {self.patience_s:g} s."
        wait_for(stage, requeued, self.patience_s, missed)
        return Effect(evidence=f"Requeued {many(len(asked))} from the dead letters.", tasks=tuple(asked))
