"""Clients that disconnect before their answer."""

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
class ClientGivesUp(Fault):
    """Some clients submit a task and disconnect before the answer, so that its outcome is unknown (I2, I6).

    A task that was accepted anyway must run once, unchanged, and clients that wait for answers must not be affected.
    """

    name: ClassVar[str] = "client-gives-up"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I6")
    aims_at: ClassVar[Aim] = "client"
    last: ClassVar[bool] = True

    one_in: int = how_many(4)
    """One in this many clients hangs up, on average."""
    patience_s: float = 30.0
    """Maximum wait, in seconds after the planned time, for the end of all submissions."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        impatient = {task.id for task in tasks if task.alone and draw.randrange(self.one_in) == 0}
        return [replace(task, behaviour="client-gives-up") if task.id in impatient else task for task in tasks]

    def inject(self, stage: Stage) -> Effect:
        waited_for(stage, stage.workload_over, self.patience_s)
        planned = stage.behaving.get("client-gives-up", frozenset())
        hung_up, answered = planned & stage.unknown(), planned & stage.promised()
        # An unreachable server also leaves clients without an answer, but not every one of these.
        if answered or not hung_up:
            raise Missed(
                f"{len(answered)} of {len(planned)} clients that were to hang up had an answer: does the target's "
                "enqueue() do what the payload says?"
            )
        return Effect(evidence=f"{len(hung_up)} of {len(planned)} clients disconnected before the answer.")
