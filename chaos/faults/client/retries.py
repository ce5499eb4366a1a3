"""Clients that send their task twice."""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history import Aim
from ..base import Effect, Fault, Missed, Stage, how_many, waited_for
from ..registry import fault

if TYPE_CHECKING:
    from ..planned import PlannedTask


@fault
@dataclass(frozen=True, kw_only=True)
class ClientRetries(Fault):
    """Some clients submit a task twice with the same idempotency key: it is one task (I8).

    A second execution is a duplicate that this does not explain. Only for queues that take such a key.
    """

    name: ClassVar[str] = "client-retries"
    threatens: ClassVar[tuple[str, ...]] = ("I8",)
    aims_at: ClassVar[Aim] = "client"
    last: ClassVar[bool] = True

    one_in: int = how_many(4)
    """How many clients there are for one that retries; half of these have hung up on the first answer."""
    patience_s: float = 30.0
    """How long to wait until everything is submitted, when the planned time for it is over."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        behaviours = {
            task.id: draw.choice(("client-retries", "client-retries-unanswered"))
            for task in tasks
            if task.alone and draw.randrange(self.one_in) == 0
        }
        return [replace(task, behaviour=behaviours.get(task.id, task.behaviour)) for task in tasks]

    def inject(self, stage: Stage) -> Effect:
        waited_for(stage, stage.workload_over, self.patience_s)
        repeated = stage.repeated()
        if not repeated:
            raise Missed("No submission was promised a second time.")
        return Effect(
            evidence=f"{repeated} submissions were sent again with the same idempotency key and promised again."
        )
