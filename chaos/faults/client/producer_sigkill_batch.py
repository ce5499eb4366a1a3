"""SIGKILL of the producer during a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..base import Brought, Effect, Missed, Stage
from ..registry import fault
from .producer_sigkill import ProducerSigkill

HANDED_OVER_S = 0.1
"""Seconds between the stop of the producer and the look at open requests, in which clients send more of them."""


@fault
@dataclass(frozen=True, kw_only=True)
class ProducerSigkillBatch(ProducerSigkill):
    """SIGKILLs the target's producer during a batch, and starts it again (I2, I6, I8).

    The queue must accept the whole batch or nothing; the client can't know which. For targets that state a `batch_max`.
    """

    name: ClassVar[str] = "producer-sigkill-batch"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I6", "I8")
    needs_batches: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"call": 50}

    def under_way(self, stage: Stage) -> str:
        stage.wait(HANDED_OVER_S)
        size = stage.batch_under_way()
        return f"a batch of {size} tasks was" if size > 1 else ""

    def inject(self, stage: Stage) -> Effect:
        try:
            return super().inject(stage)
        except Missed as missed:
            raise Missed(str(missed).replace("submission", "batch")) from None
