"""Clients that use one idempotency key for several payloads."""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history import Aim
from ..base import Effect, Fault, InMix, Missed, Stage, how_many, waited_for
from ..registry import fault

if TYPE_CHECKING:
    from ..planned import PlannedTask

WAYS = ("client-reuses-key", "client-reuses-key-at-once")
SCHEDULED_ONE_IN = 3
"""One in this many of the drawn tasks is a scheduled task, if the plan has enough of them."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClientReusesKey(Fault):
    """Some clients submit two payloads under one idempotency key, several times (I6, I8).

    Half of the clients send all requests at once, the others a second after the first answer. The queue must accept one
    request under one id, and refuse the other payload as a conflict. Only for queues that support idempotency keys.
    """

    name: ClassVar[str] = "client-reuses-key"
    threatens: ClassVar[tuple[str, ...]] = ("I6", "I8")
    aims_at: ClassVar[Aim] = "client"
    needs_keys: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"
    last: ClassVar[bool] = True

    tasks: int = how_many(6)
    """Number of tasks submitted this way, half of them at once."""
    patience_s: float = 30.0
    """Maximum wait, in seconds after the planned time, for the end of all submissions."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        alone = [task.id for task in tasks if task.alone]
        drawn = draw.sample(alone, min(self.tasks, len(alone)))
        # The key of a scheduled task must be kept, too.
        scheduled = [task.id for task in tasks if task.delay_ms and task.alone and task.id not in drawn]
        for place, task_id in zip(range(0, len(drawn), SCHEDULED_ONE_IN), scheduled, strict=False):
            drawn[place] = task_id
        ways = {task: WAYS[place % len(WAYS)] for place, task in enumerate(drawn)}
        return [replace(task, behaviour=ways.get(task.id, task.behaviour)) for task in tasks]

    def inject(self, stage: Stage) -> Effect:
        waited_for(stage, stage.workload_over, self.patience_s)
        planned = frozenset().union(*(stage.behaving.get(way, frozenset()) for way in WAYS))
        promised = len(planned & stage.promised())
        if not promised:
            raise Missed("No task whose idempotency key was used several times was promised.")
        return Effect(
            evidence=f"Of {len(planned)} tasks whose idempotency key was used several times {promised} were promised."
        )
