"""Clients that use one idempotency key for several requests."""

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
"""Of that many that are drawn one is a scheduled task, where there are some."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClientReusesKey(Fault):
    """Some clients submit two payloads under one idempotency key, several times (I6, I8).

    Some of them at the same moment, the others a second after the first was answered. One request is accepted, under
    one id; another payload is refused as a conflict. Only for queues that take such a key.
    """

    name: ClassVar[str] = "client-reuses-key"
    threatens: ClassVar[tuple[str, ...]] = ("I6", "I8")
    aims_at: ClassVar[Aim] = "client"
    needs_keys: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"
    last: ClassVar[bool] = True

    tasks: int = how_many(6)
    """How many tasks are sent so, half of them at once."""
    patience_s: float = 30.0
    """How long to wait until everything is submitted, when the planned time for it is over."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        alone = [task.id for task in tasks if task.alone]
        drawn = draw.sample(alone, min(self.tasks, len(alone)))
        # A key must be kept with a scheduled task as well.
        scheduled = [task.id for task in tasks if task.delay_ms and task.alone]
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
