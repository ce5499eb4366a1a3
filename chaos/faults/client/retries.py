"""Clients that submit their task twice."""

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

    The fault does not excuse a second execution. Only for queues that support idempotency keys.
    """

    name: ClassVar[str] = "client-retries"
    threatens: ClassVar[tuple[str, ...]] = ("I8",)
    aims_at: ClassVar[Aim] = "client"
    last: ClassVar[bool] = True

    one_in: int = how_many(4)
    """One in this many clients retries, on average; half of these disconnect before the first answer."""
    patience_s: float = 30.0
    """Maximum wait, in seconds after the planned time, for the end of all submissions."""

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
