"""Handlers that take longer than a lease."""

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ..base import Stage
from ..registry import fault
from .base import HandlerFault

if TYPE_CHECKING:
    from ..planned import PlannedTask


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerOutlivesLease(HandlerFault):
    """Some tasks run for twice the time that recovery takes, while other tasks are running (I3, I4).

    The baseline `slow` has such tasks, too, but can't be combined with other faults.
    """

    name: ClassVar[str] = "handler-outlives-lease"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I4")
    behaviour: ClassVar[str] = "outlive-lease"
    did: ClassVar[str] = "were in their body for longer than a dead worker's task lies"

    def spoil(self, task: "PlannedTask", recover_within_s: float) -> "PlannedTask":
        return replace(super().spoil(task, recover_within_s), work_ms=round(2_000 * recover_within_s))

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.lasted(stage.recover_within_s)
