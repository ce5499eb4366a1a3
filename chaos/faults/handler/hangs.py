"""Handlers that hang."""

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ..base import Stage, how_many
from ..registry import fault
from .base import HandlerFault

if TYPE_CHECKING:
    from ..planned import PlannedTask

SEEN_SHARE = 0.5
"""Share of `for_s` that counts as hanging: a queue with a time limit may end the bodies early."""


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerHangs(HandlerFault):
    """The bodies of some tasks do not return for many seconds at their first attempt (I2, I4).

    Other tasks must not wait for them. A time limit of the queue, for example `ZEROLOSS_TASK_TIMEOUT_MS` of the
    reference, may end them. They return in the end, so that a queue without a time limit can pass.
    """

    name: ClassVar[str] = "handler-hangs"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I4")
    behaviour: ClassVar[str] = "hang-once"

    tasks: int = how_many(5)
    """Number of tasks that do so."""
    for_s: float = 10.0
    """Seconds after which they return by themselves."""

    def spoil(self, task: "PlannedTask", recover_within_s: float) -> "PlannedTask":
        # In `work_ms`, so that the harness allows for it before it reports that the queue stands still.
        return replace(super().spoil(task, recover_within_s), work_ms=round(self.for_s * 1_000))

    @property
    def did(self) -> str:  # type: ignore[override]
        return f"were in their body for at least {SEEN_SHARE * self.for_s:g} s"

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.lasted(SEEN_SHARE * self.for_s)
