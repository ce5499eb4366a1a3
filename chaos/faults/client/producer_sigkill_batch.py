"""SIGKILL of the producer under a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ..base import Brought, Effect, Missed, Stage, how_many
from ..registry import fault
from .producer_sigkill import ProducerSigkill

if TYPE_CHECKING:
    from ..planned import PlannedTask

HANDED_OVER_S = 0.1
"""For that long the producer is stopped before its requests are read: clients send theirs meanwhile."""


@fault
@dataclass(frozen=True, kw_only=True)
class ProducerSigkillBatch(ProducerSigkill):
    """SIGKILLs the target's producer during a batch, and starts it again (I2, I6, I8).

    All of the batch was accepted or none of it, and no client knows which. For targets that state a `batch_max`.
    """

    name: ClassVar[str] = "producer-sigkill-batch"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I6", "I8")
    needs_batches: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"call": 50}

    batches: int = how_many(20)
    """How many batches there are for it."""
    size: int = how_many(50)
    """How many tasks are in each, at most."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        made, number = list(tasks), max((task.batch for task in tasks), default=0)
        size = max(2, min(self.size, len(tasks) // (2 * self.batches)))
        for start in range(0, len(tasks) - size + 1, max(size, len(tasks) // self.batches)):
            group = range(start, start + size)
            if any(made[place].batch for place in group):
                continue
            number += 1
            for place in group:
                made[place] = replace(made[place], batch=number, at_s=made[start].at_s)
        return made

    def under_way(self, stage: Stage) -> str:
        stage.wait(HANDED_OVER_S)
        size = stage.batch_under_way()
        return f"a batch of {size} tasks was" if size > 1 else ""

    def inject(self, stage: Stage) -> Effect:
        try:
            return super().inject(stage)
        except Missed as missed:
            raise Missed(str(missed).replace("submission", "batch")) from None
