"""Handlers that always raise."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

from ..base import Stage
from ..registry import fault
from .base import HandlerFault


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerRaisesAlways(HandlerFault):
    """The bodies of some tasks raise at every attempt (I1, I2, I5).

    Each must end as a dead letter with a reason, and must not stop other tasks.
    """

    name: ClassVar[str] = "handler-raises-always"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I5")
    behaviour: ClassVar[str] = "raise-always"
    did: ClassVar[str] = "raised an error"

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.raised()
